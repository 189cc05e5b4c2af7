use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    registry::entry::Process,
    registry::{
        NewEntry,
        entries::tests::{planned, request},
    },
};

fn open(directory: &Path) -> OpenedStore {
    Store::open(directory, 1_000_000).unwrap()
}

fn add(opened: &mut OpenedStore, pid: i32) {
    let process = Process {
        pid,
        start_ticks: 1,
        command_args: vec!["sleep".into(), "1".into()],
        ..Default::default()
    };
    add_new(opened, NewEntry { process, ..Default::default() });
}

fn add_new(opened: &mut OpenedStore, new: NewEntry) {
    let change = opened.registry.plan_add(new, 5).unwrap();
    opened.store.append(std::slice::from_ref(&change)).unwrap();
    opened.registry.apply(change);
}

/// Check that a file that was cut anywhere, as by a kill or a full disk, gives the registry of the
/// complete lines before the cut, and does not count as damaged.
#[test]
fn a_cut_anywhere_loses_only_the_last_command() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    let path = opened.store.path().to_owned();
    let mut states = vec![(opened.store.length, opened.registry.clone())];
    for pid in 1..20 {
        add(&mut opened, pid);
        states.push((opened.store.length, opened.registry.clone()));
    }
    drop(opened);
    let whole = fs::read(&path).unwrap();
    for length in states[0].0..=whole.len() as u64 {
        fs::write(&path, &whole[..usize::try_from(length).unwrap()]).unwrap();
        let read = open(directory.path());
        let (_, wanted) = states.iter().rev().find(|(end, _)| *end <= length).unwrap();
        assert!(read.damaged.is_none(), "cut at {length}");
        assert_eq!(&read.registry, wanted, "cut at {length}");
    }
}

/// Check that a damaged file is kept under the returned name, that its other lines are loaded, and
/// that the next start finds no damage.
#[test]
fn a_damaged_file_is_kept_under_another_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    (1..4).for_each(|pid| add(&mut opened, pid));
    let path = opened.store.path().to_owned();
    drop(opened);
    let text = fs::read_to_string(&path).unwrap().replacen("\"id\":2", "\"id\":oops", 1);
    fs::write(&path, &text).unwrap();
    let opened = open(directory.path());
    let (aside, lines) = opened.damaged.unwrap();
    assert_eq!((fs::read_to_string(aside).unwrap(), lines), (text, 1));
    assert_eq!(opened.registry.iter().map(|entry| entry.id).collect::<Vec<_>>(), [1, 3]);
    drop(opened.store);
    assert!(open(directory.path()).damaged.is_none());
    // If all lines are damaged, the registry is empty, and the damage is returned.
    fs::write(&path, "\0\0\0\n{}\n").unwrap();
    let opened = open(directory.path());
    assert_eq!((opened.registry.len(), opened.damaged.unwrap().1), (0, 2));
}

/// Check a checksum against one that another program has calculated, and that the examples of the
/// module's documentation are right.
#[test]
fn a_line_ends_with_its_checksum() {
    let mut text = Vec::new();
    encode_line(&[Change::Begin { schema: FILE_SCHEMA, last_id: 7 }], &mut text).unwrap();
    let line = "[{\"begin\":{\"schema\":1,\"last_id\":7}},{\"crc32\":\"c236d3c7\"}]\n";
    assert_eq!(str::from_utf8(&text).unwrap(), line);
    let edit = crate::registry::EntryEdit { add_tags: vec!["db".into()], ..Default::default() };
    encode_line(&[Change::Edit { ids: vec![8], edit }], &mut text).unwrap();
    let edited = "[{\"edit\":{\"ids\":[8],\"add_tags\":[\"db\"]}},{\"crc32\":\"9933646c\"}]\n";
    assert_eq!(str::from_utf8(&text).unwrap(), line.to_owned() + edited, "a line is appended");
}

/// Check that every single flipped bit of a line is found, in a value that stays valid JSON too.
#[test]
fn every_flipped_bit_of_a_line_is_found() {
    let process = Process { pid: 12, start_ticks: 7, ..Default::default() };
    let new = NewEntry { process, name: "JazZ*".into(), ..Default::default() };
    let changes = [Registry::default().plan_add(new, 5).unwrap(), Change::Reset];
    let mut line = Vec::new();
    encode_line(&changes, &mut line).unwrap();
    assert_eq!(decode_line(&mut line.clone()).unwrap(), changes);
    for bit in 0..(line.len() - 1) * 8 {
        let mut flipped = line.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode_line(&mut flipped), None, "bit {bit} of {}", line.escape_ascii());
    }
}

/// Check that damage that leaves valid JSON, and even a valid entry, is damage of that line alone.
#[test]
fn a_flipped_bit_in_a_value_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    (1..4).for_each(|pid| add(&mut opened, pid));
    let path = opened.store.path().to_owned();
    drop(opened);
    let text = fs::read_to_string(&path).unwrap().replacen("\"pid\":2", "\"pid\":3", 1);
    let line = text.lines().nth(3).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    fs::write(&path, &text).unwrap();
    let opened = open(directory.path());
    let (aside, lines) = opened.damaged.unwrap();
    assert_eq!((fs::read_to_string(aside).unwrap(), lines), (text, 1));
    assert_eq!(opened.registry.iter().map(|entry| entry.id).collect::<Vec<_>>(), [1, 3]);
}

/// Check that a file of a daemon that wrote no checksums is read, that its new lines have one, and
/// that its last line may be incomplete.
#[test]
fn a_file_without_checksums_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    (1..4).for_each(|pid| add(&mut opened, pid));
    let path = opened.store.path().to_owned();
    let before = opened.registry.clone();
    drop(opened);
    let text = fs::read_to_string(&path).unwrap();
    let without = |line: &str| line.split_once(",{\"crc32\"").unwrap().0.to_owned() + "]\n";
    let old: String = text.lines().map(without).collect();
    fs::write(&path, old.clone() + "[{\"add\":{\"id\":9,").unwrap();
    let mut opened = open(directory.path());
    assert_eq!((&opened.registry, opened.damaged.is_none()), (&before, true));
    add(&mut opened, 9);
    let opened = open_again(opened, directory.path());
    assert!(opened.damaged.is_none());
    let mixed = fs::read_to_string(&path).unwrap();
    let appended = mixed.strip_prefix(&old).expect("the old lines are left as they were");
    assert_eq!((appended.lines().count(), appended.contains("crc32")), (1, true));
}

/// Check that ids are not used again after their entries were removed and the file was rewritten.
#[test]
fn ids_are_unique_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    (1..4).for_each(|pid| add(&mut opened, pid));
    opened.store.append(&[Change::Reset]).unwrap();
    opened.registry.apply(Change::Reset);
    let mut opened = open_again(opened, directory.path());
    opened.store.note_missing_change();
    opened.store.compact(&opened.registry, true).unwrap();
    let mut opened = open_again(opened, directory.path());
    add(&mut opened, 9);
    assert_eq!(opened.registry.last_id(), 4);
}

fn open_again(opened: OpenedStore, directory: &Path) -> OpenedStore {
    let before = opened.registry;
    drop(opened.store);
    let opened = open(directory);
    assert_eq!(opened.registry, before);
    opened
}

/// Check that lines that could not be synced are removed from the file, and that the store can be
/// used further.
#[test]
fn lines_that_could_not_be_synced_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    add(&mut opened, 1);
    opened.store.sync().unwrap();
    let before = opened.registry.clone();
    add(&mut opened, 2);
    // Syncing fails for a pipe.
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    let file = std::mem::replace(&mut opened.store.file, writer.into());
    assert!(opened.store.sync().is_err());
    opened.store.file = file;
    assert_eq!(opened.store.reread().unwrap(), before);
    opened.registry = before;
    add(&mut opened, 3);
    opened.store.sync().unwrap();
    open_again(opened, directory.path());
}

/// Check that a second daemon cannot open the store of a directory.
#[test]
fn a_directory_is_opened_by_one_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());
    assert!(matches!(Store::open(directory.path(), 1), Err(StoreError::InUse { .. })));
}

/// The CPU time of this thread, because the machine may be busy with other processes.
fn processor_time() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// A new entry with a value in every field.
fn full(pid: i32) -> NewEntry {
    let process = Process {
        pid,
        start_ticks: 1_234_567,
        boot: 3_834_326_668,
        executable: "/usr/sbin/nginx".into(),
        command_args: ["nginx:", "worker", "process", "--config", "/etc/nginx/nginx.conf"]
            .map(Into::into)
            .into(),
        uid: Some(33),
        created_ns: 1_795_266_132_230_185_967,
        pidfd_inode: Some(27_211),
        ..Default::default()
    };
    NewEntry {
        process,
        name: format!("web-{pid}"),
        tags: vec!["http".into(), "edge".into()],
        groups: vec!["shop".into()],
    }
}

/// Check that 100 000 entries are read in a second, and that one more tag writes one short line.
#[test]
fn a_hundred_thousand_entries_load_and_one_tag_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    (1..=100_000).for_each(|pid| add_new(&mut opened, full(pid)));
    opened.store.note_missing_change();
    opened.store.compact(&opened.registry, true).unwrap();
    let OpenedStore { store, registry, .. } = opened;
    drop(store);
    let began = processor_time();
    let mut opened = open(directory.path());
    let took = processor_time() - began;
    assert!(opened.registry == registry, "the registry differs from the one that was written");
    let before = opened.store.length;
    let edit = crate::registry::EntryEdit { add_tags: vec!["db".into()], ..Default::default() };
    let change = opened.registry.plan_edit(vec![77], edit).unwrap();
    opened.store.append(&[change]).unwrap();
    opened.store.sync().unwrap();
    assert!(opened.store.length - before < 100);
    eprintln!("100 000 entries in {took:?}");
    // One second is promised for an optimised build. This build is not.
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Check that the file gives the registry again, for any requests, rewrites and restarts in any
    /// order.
    #[test]
    fn a_restart_finds_every_command(
        requests in proptest::collection::vec((request(), 0..20u8), 1..60),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut opened = open(directory.path());
        for (request, what) in requests {
            if let Ok(change) = planned(&opened.registry, &request) {
                opened.store.append(std::slice::from_ref(&change)).unwrap();
                opened.registry.apply(change);
            }
            match what {
                0 => {
                    opened.store.note_missing_change();
                    opened.store.compact(&opened.registry, true).unwrap();
                }
                1 => opened = open_again(opened, directory.path()),
                _ => {}
            }
        }
        open_again(opened, directory.path());
    }
}
