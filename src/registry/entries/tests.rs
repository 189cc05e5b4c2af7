use proptest::prelude::*;

use super::*;
use crate::registry::entry::ProcessEnd;

fn process(pid: i32, start_ticks: u64) -> Process {
    let command_args = vec!["worker".into(), format!("--shard={}", pid % 7)];
    Process { pid, start_ticks, boot: 1, command_args, ..Default::default() }
}

fn add(registry: &mut Registry, pid: i32, tags: &[&str], groups: &[&str]) -> u64 {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let new = NewEntry {
        process: process(pid, 7),
        tags: words(tags),
        groups: words(groups),
        ..Default::default()
    };
    let change = registry.plan_add(new, 5).unwrap();
    registry.apply(change);
    registry.last_id()
}

/// Check that a process has one entry, that the refusal names it, and that a later process with its
/// pid is another.
#[test]
fn a_reused_pid_is_another_process() {
    let mut registry = Registry::default();
    let id = add(&mut registry, 12, &[], &[]);
    let again = registry
        .plan_add(NewEntry { process: process(12, 7), ..Default::default() }, 6)
        .unwrap_err();
    assert_eq!(again.to_string(), "process 12 is registered already, as entry 1");
    let end = ProcessEnd::new(9, None);
    registry.apply(Change::End { id, end, is_witnessed: true });
    let change =
        registry.plan_add(NewEntry { process: process(12, 70), ..Default::default() }, 10).unwrap();
    registry.apply(change);
    let both = Selector { pids: [12].into(), ..Default::default() };
    let ends: Vec<_> =
        registry.select(&both, 0).map(|entry| (entry.id, entry.is_alive())).collect();
    assert_eq!(ends, [(1, false), (2, true)]);
}

/// Check that a living entry stays the one of its process if another entry of the same process
/// ends, in both orders: the line of the file that ended the other one before may have been damaged.
#[test]
fn a_second_entry_of_a_process_does_not_hide_the_first() {
    for order in [[1, 2], [2, 1]] {
        let mut registry = Registry::default();
        let new = || NewEntry { process: process(12, 7), ..Default::default() };
        let mut second = Registry::default();
        second.apply(Change::Begin { schema: 1, last_id: 1 });
        for change in [registry.plan_add(new(), 5), second.plan_add(new(), 5)] {
            registry.apply(change.unwrap());
        }
        for (ended, id) in order.into_iter().enumerate() {
            assert_eq!(registry.living_count(), 1, "{ended} of {order:?}");
            registry.apply(Change::End { id, end: ProcessEnd::new(9, None), is_witnessed: true });
        }
        assert_eq!(registry.living_count(), 0, "{order:?}");
    }
}

/// Check that an exit code that becomes known after the end of a process does not change the time
/// of the end.
#[test]
fn an_exit_code_may_be_known_after_the_end() {
    let mut registry = Registry::default();
    let id = add(&mut registry, 12, &[], &[]);
    registry.apply(Change::End { id, end: ProcessEnd::new(9, None), is_witnessed: true });
    registry.apply(Change::End {
        id,
        end: ProcessEnd { time_ns: 11, code: Some(3), signal: None },
        is_witnessed: true,
    });
    let entry = registry.get(id).unwrap();
    assert_eq!(
        (entry.end, entry.last_seen_ns),
        (Some(ProcessEnd { time_ns: 9, code: Some(3), signal: None }), 9)
    );
}

/// Check that a process that ended while no daemon ran was last seen at the last recorded time.
#[test]
fn an_end_while_no_daemon_ran_keeps_the_last_seen_time() {
    let mut registry = Registry::default();
    let id = add(&mut registry, 12, &[], &[]);
    registry.apply(Change::Seen { time_ns: 50 });
    registry.apply(Change::End { id, end: ProcessEnd::new(90, None), is_witnessed: false });
    assert_eq!(registry.get(id).unwrap().last_seen_ns, 50);
}

/// Check the requests that are refused before anything is changed.
#[test]
fn invalid_requests_are_refused() {
    let mut registry = Registry::default();
    add(&mut registry, 1, &["a"], &[]);
    add(&mut registry, 2, &["a"], &[]);
    let tagged = Selector { tags: vec!["a".into()], ..Default::default() };
    let text = |refused: Result<Vec<u64>, Refusal>| refused.unwrap_err().to_string();
    assert_eq!(
        text(registry.resolve_ids(&tagged, false)),
        "2 entries match (1, 2): give their ids, or --all"
    );
    assert_eq!(registry.resolve_ids(&tagged, true).unwrap(), [1, 2]);
    assert_eq!(
        text(registry.resolve_ids(&Selector { ids: [1, 9].into(), ..Default::default() }, false)),
        "no entry 9"
    );
    assert_eq!(
        text(registry.resolve_ids(&Selector { pids: [9].into(), ..Default::default() }, false)),
        "no entry matches"
    );
    assert!(registry.resolve_ids(&Selector::default(), true).is_err());
    for name in ["", " x", "a\u{1b}b", &"x".repeat(129)] {
        let edit = EntryEdit { add_tags: vec![name.into()], ..Default::default() };
        assert!(registry.plan_edit(vec![1], edit).is_err(), "{name:?}");
    }
    let many = EntryEdit {
        add_tags: (0..65).map(|number| number.to_string()).collect(),
        ..Default::default()
    };
    assert!(matches!(registry.plan_edit(vec![1], many), Err(Refusal::TooMany { id: 1, .. })));
}

/// Check every filter, alone and combined, against a comparison with each of 10 000 entries, and
/// that a selection takes milliseconds.
#[test]
fn filters_give_the_same_as_comparing_every_entry() {
    let mut registry = Registry::default();
    for pid in 1..=10_000 {
        let tags: Vec<String> =
            (2..6).filter(|part| pid % part == 0).map(|part| format!("t{part}")).collect();
        let groups: Vec<String> =
            (7..10).filter(|part| pid % part == 0).map(|part| format!("g{part}")).collect();
        let id = add(
            &mut registry,
            pid,
            &tags.iter().map(String::as_str).collect::<Vec<_>>(),
            &groups.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let edit = EntryEdit { name: Some(format!("n{}", pid % 100)), ..Default::default() };
        let change = registry.plan_edit(vec![id], edit).unwrap();
        registry.apply(change);
        if pid % 3 == 0 {
            registry.apply(Change::End { id, end: ProcessEnd::new(1, None), is_witnessed: true });
        }
    }
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let kinds = [
        Selector { ids: (1..500).collect(), ..Default::default() },
        Selector { pids: (100..2000).collect(), ..Default::default() },
        Selector { names: text(&["n8", "n30"]), ..Default::default() },
        Selector { tags: text(&["t2", "t5"]), ..Default::default() },
        Selector { all_tags: text(&["t2", "t3"]), ..Default::default() },
        Selector { groups: text(&["g7", "g9"]), ..Default::default() },
        Selector { all_groups: text(&["g7", "g8"]), ..Default::default() },
        Selector { alive: true, ..Default::default() },
        Selector { search: "r --shard=3".into(), ..Default::default() },
    ];
    let matching =
        |kind: &Selector| registry.iter().map(|entry| kind.matches(entry)).collect::<Vec<_>>();
    let matching: Vec<Vec<bool>> = kinds.iter().map(matching).collect();
    let mut slowest = std::time::Duration::ZERO;
    for chosen in 0..1 << kinds.len() {
        let selector = combined(
            kinds.iter().enumerate().filter(|(kind, _)| chosen >> kind & 1 == 1).map(|(_, it)| it),
        );
        let began = cpu_time();
        let found: Vec<u64> = registry.select(&selector, 0).map(|entry| entry.id).collect();
        slowest = slowest.max(cpu_time() - began);
        let chosen: Vec<_> = (0..kinds.len())
            .filter(|kind| chosen >> kind & 1 == 1)
            .map(|kind| &matching[kind])
            .collect();
        let every = registry
            .iter()
            .enumerate()
            .filter(|(index, _)| chosen.iter().all(|matching| matching[*index]));
        let wanted: Vec<u64> = every.map(|(_, entry)| entry.id).collect();
        assert_eq!(found, wanted, "{selector:?}");
    }
    // CPU time of this thread, because the machine may be busy. Milliseconds are promised; a build
    // without optimisation may take ten times that.
    assert!(slowest < std::time::Duration::from_millis(100), "{slowest:?}");
}

/// A selector that has the conditions of all selectors in `kinds`.
fn combined<'a>(kinds: impl Iterator<Item = &'a Selector>) -> Selector {
    let mut all = Selector::default();
    for kind in kinds.cloned() {
        all.ids.extend(kind.ids);
        all.pids.extend(kind.pids);
        all.names.extend(kind.names);
        all.tags.extend(kind.tags);
        all.all_tags.extend(kind.all_tags);
        all.groups.extend(kind.groups);
        all.all_groups.extend(kind.all_groups);
        all.alive |= kind.alive;
        all.search += &kind.search;
    }
    all
}

/// The CPU time of this thread.
fn cpu_time() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// A random request to the registry.
#[derive(Debug, Clone)]
pub(in crate::registry) enum Request {
    Add(i32, u64),
    Tag(u64, u8),
    Untag(u64, u8),
    Name(u64, u8),
    Remove(u64),
    End(u64, u8),
    Reset,
}

pub(in crate::registry) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => (1..8i32, 0..3u64).prop_map(|(pid, start)| Request::Add(pid, start)),
        4 => (1..20u64, 0..4u8).prop_map(|(id, tag)| Request::Tag(id, tag)),
        2 => (1..20u64, 0..4u8).prop_map(|(id, tag)| Request::Untag(id, tag)),
        2 => (1..20u64, 0..4u8).prop_map(|(id, name)| Request::Name(id, name)),
        2 => (1..20u64).prop_map(Request::Remove),
        3 => (1..20u64, 0..4u8).prop_map(|(id, code)| Request::End(id, code)),
        1 => Just(Request::Reset),
    ]
}

/// The change that the registry plans for a request.
pub(in crate::registry) fn planned(
    registry: &Registry,
    request: &Request,
) -> Result<Change, Refusal> {
    let one =
        |id: u64| registry.resolve_ids(&Selector { ids: [id].into(), ..Default::default() }, false);
    let edit = |id: u64, edit: EntryEdit| registry.plan_edit(one(id)?, edit);
    match *request {
        Request::Add(pid, start) => {
            registry.plan_add(NewEntry { process: process(pid, start), ..Default::default() }, 5)
        }
        Request::Tag(id, tag) => {
            edit(id, EntryEdit { add_tags: vec![format!("t{tag}")], ..Default::default() })
        }
        Request::Untag(id, tag) => {
            edit(id, EntryEdit { remove_tags: vec![format!("t{tag}")], ..Default::default() })
        }
        Request::Name(id, name) => {
            edit(id, EntryEdit { name: Some(format!("n{name}")), ..Default::default() })
        }
        Request::Remove(id) => Ok(Change::Remove { ids: one(id)? }),
        Request::End(id, code) => {
            let end = ProcessEnd { time_ns: 9, code: Some(code), signal: None };
            one(id).map(|_| Change::End { id, end, is_witnessed: true })
        }
        Request::Reset => Ok(Change::Reset),
    }
}

proptest! {
    /// Check against a plain list that, for any requests in any order, ids are never used twice, a
    /// living process has one entry, and the indexes agree with the entries.
    #[test]
    fn the_indexes_agree_with_the_entries(requests in proptest::collection::vec(request(), 1..80)) {
        let mut registry = Registry::default();
        let mut list: Vec<Entry> = Vec::new();
        let mut given = BTreeSet::new();
        for request in requests {
            let Ok(change) = planned(&registry, &request) else { continue };
            match &change {
                Change::Add(entry) => {
                    prop_assert!(given.insert(entry.id), "an id is given twice");
                    let key = entry.process.key();
                    let same = |other: &&Entry| other.is_alive() && other.process.key() == key;
                    prop_assert_eq!(list.iter().find(same), None);
                    list.push((**entry).clone());
                }
                Change::Edit { ids, edit } => {
                    for entry in list.iter_mut().filter(|entry| ids.contains(&entry.id)) {
                        entry.tags.extend(edit.add_tags.iter().cloned());
                        edit.remove_tags.iter().for_each(|tag| { entry.tags.remove(tag); });
                        entry.name = edit.name.clone().or(entry.name.clone());
                    }
                }
                Change::Remove { ids } => list.retain(|one| !ids.contains(&one.id)),
                Change::End { id, end, .. } => {
                    for entry in list.iter_mut().filter(|entry| entry.id == *id) {
                        entry.end = Some(*end);
                        entry.last_seen_ns = 9;
                    }
                }
                _ => list.clear(),
            }
            registry.apply(change);
        }
        prop_assert_eq!(registry.iter().cloned().collect::<Vec<_>>(), list.clone());
        let ids = |is_match: &dyn Fn(&Entry) -> bool| -> Vec<u64> {
            list.iter().filter(|entry| is_match(entry)).map(|entry| entry.id).collect()
        };
        let selected = |selector: &Selector| -> Vec<u64> {
            registry.select(selector, 0).map(|entry| entry.id).collect()
        };
        for pid in 1..8 {
            let selector = Selector { pids: [pid].into(), ..Default::default() };
            prop_assert_eq!(selected(&selector), ids(&|entry| entry.process.pid == pid));
        }
        for word in 0..4 {
            let (tag, name) = (format!("t{word}"), format!("n{word}"));
            let tagged = Selector { tags: vec![tag.clone()], ..Default::default() };
            prop_assert_eq!(selected(&tagged), ids(&|entry| entry.tags.contains(&tag)));
            let named = Selector { names: vec![name.clone()], ..Default::default() };
            prop_assert_eq!(selected(&named), ids(&|entry| entry.name.as_ref() == Some(&name)));
        }
    }
}
