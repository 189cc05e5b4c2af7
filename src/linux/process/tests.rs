use std::{
    collections::HashSet,
    process::{self, Command, Stdio},
    time::Instant,
};

use super::*;
use crate::{
    linux::testing::{Killed, spawn, until},
    model::{FileId, Grade, ProcessKey, UnknownReason},
};

/// Whether the child has executed the shell. In the middle of an exec the name is set already and
/// the arguments are not, so the grade is checked too.
fn runs_a_shell(child: &Killed) -> bool {
    let (image, grade) = image(child.pid(), child.key());
    image.comm.as_deref() == Some(b"sh") && grade == Grade::Late
}

fn waiter() -> Killed {
    let child =
        Killed(spawn(Command::new("sh").args(["-c", "read never", ""]).stdin(Stdio::piped())));
    until("it runs a shell", || runs_a_shell(&child));
    child
}

/// Check that the name of a task cannot be confused with the fields after it.
#[test]
fn a_hostile_name_does_not_shift_the_fields_of_stat() {
    let line = b"7 (a) R 1 2) S 42 7 7 0 -1 4194308 0 0 0 0 0 0 0 0 20 0 1 0 12345 \
        0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 100 250 0 0 0\n";
    let stat = Stat::parse(line).unwrap();
    assert_eq!(
        (&*stat.comm, stat.state, stat.parent, stat.start_ticks),
        (&b"a) R 1 2"[..], b'S', Some(42), 12345)
    );
    assert!(stat.exiting, "0x400004 has PF_EXITING");
    assert_eq!(Stat::parse(b"7 (a"), None);
    assert_eq!(Stat::parse(b""), None);
    assert_eq!(Stat::parse(b")("), None);
}

/// Check that the effective ids and the innermost pid are parsed, and that noise gives no values.
#[test]
fn status_has_effective_ids_and_the_innermost_pid() {
    let text = b"Name:\tx\nCapEff:\t000001ffffffffff\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t4211\t17\n";
    assert_eq!(
        Status::parse(text),
        Status {
            uid: Some(2),
            gid: Some(6),
            vpid: Some(17),
            effective_capabilities: Some(0x1ff_ffff_ffff),
        }
    );
    assert_eq!(Status::parse(b"Uid\nGid:\nNSpid:\tx\n:\n"), Status::default());
}

proptest::proptest! {
    /// Check that no bytes can panic a parser.
    #[test]
    fn any_bytes_are_parsed(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = (Stat::parse(&noise), Status::parse(&noise));
    }
}

/// Check that all fields of a living process are read, with its empty arguments.
#[test]
fn an_image_has_everything_of_a_living_process() {
    let child = waiter();
    let (image, grade) = image(child.pid(), child.key());
    assert_eq!((grade, image.unknown), (Grade::Late, None));
    let args = image.args.unwrap();
    assert_eq!(args.iter().collect::<Vec<_>>(), [&b"sh"[..], b"-c", b"read never", b""]);
    assert_eq!((args.count, args.total_bytes, args.truncated()), (4, 18, false));
    assert!(image.executable.unwrap().ends_with(b"sh"));
    assert_eq!(
        image.working_directory.as_deref(),
        std::env::current_dir().unwrap().to_str().map(str::as_bytes)
    );
    assert_eq!(image.uid, Some(nix::unistd::geteuid().as_raw()));
    let lineage = lineage(child.pid()).unwrap();
    assert_eq!(lineage.parent, identify(process::id().cast_signed()));
    assert_eq!(lineage.vpid, Some(child.pid()));
    assert_eq!(lineage.grandparent_pid, Some(nix::unistd::getppid().as_raw()));
    assert_eq!(pid_namespace(child.pid()), pid_namespace(process::id().cast_signed()));
    assert!(mount_namespace(child.pid()).is_some());
}

/// Check that long arguments are cut at the limit, with their true length and number.
#[test]
fn long_arguments_are_bounded_and_keep_their_true_length() {
    let long = "x".repeat(100_000);
    let child = Killed(spawn(
        Command::new("sh").args(["-c", "read a", &long, "tail"]).stdin(Stdio::piped()),
    ));
    until("it runs sh", || runs_a_shell(&child));
    let args = image(child.pid(), child.key()).0.args.unwrap();
    assert_eq!((args.bytes.len(), args.count), (ARGS_LIMIT, 5));
    assert_eq!(args.total_bytes, 3 + 3 + 7 + 100_001 + 5);
    assert!(args.truncated());
}

/// Check that nothing is read of a reused pid, of a zombie and of a pid without a process.
#[test]
fn a_reused_pid_a_zombie_and_a_free_pid_are_gone() {
    let mut child = waiter();
    let key = child.key();
    let has_no_args = |(image, grade): (crate::model::Image, Grade)| {
        assert_eq!((image.unknown, grade), (Some(UnknownReason::Gone), Grade::Partial));
        image.args.is_none()
    };
    assert!(has_no_args(image(key.pid, ProcessKey::new(key.pid, key.start_ticks() - 1))));
    child.0.kill().unwrap();
    until("it is a zombie", || Stat::of(key.pid).unwrap().is_dead());
    assert_eq!(identify(key.pid), Some(key), "a zombie has its pid");
    assert!(has_no_args(image(key.pid, key)));
    child.0.wait().unwrap();
    assert!(has_no_args(image(key.pid, key)));
    assert_eq!((identify(key.pid), lineage(key.pid), pid_namespace(key.pid)), (None, None, None));
    assert_eq!((identify(0), identify(-1), identify(i32::MAX)), (None, None, None));
}

/// Check that a query for a reaped process is answered by the second call, and one for a living
/// process after the reaping, not while it is a zombie.
#[test]
fn a_query_is_answered_once_and_only_after_the_reaping() {
    let mut reaped = ReapedQueries::new().unwrap();
    let take = |reaped: &mut ReapedQueries| {
        let mut answered = Vec::new();
        reaped.answers(&mut |key| answered.push(key));
        answered
    };
    let mut child = waiter();
    let key = child.key();
    let stranger = ProcessKey::new(key.pid, key.start_ticks() - 1);
    assert!(reaped.ask(stranger));
    assert!(reaped.next_check_after().is_some());
    assert_eq!(take(&mut reaped), [], "a query is delayed by one call");
    assert_eq!(take(&mut reaped), [stranger], "another process has its pid, so it was reaped");
    assert!(reaped.ask(key));
    assert!(reaped.ask(key), "a second query for the same process");
    assert_eq!(take(&mut reaped), []);
    assert_eq!((take(&mut reaped), reaped.next_check_after()), (vec![], None));
    child.0.kill().unwrap();
    until("the zombie is checked again later", || {
        assert_eq!(take(&mut reaped), []);
        reaped.next_check_after().is_some()
    });
    child.0.wait().unwrap();
    // Before Linux 6.9 the descriptor reports only the death, so this waits for the next check.
    until("the reaping is reported", || take(&mut reaped) == [key]);
    assert_eq!((take(&mut reaped), reaped.next_check_after()), (vec![], None));
    assert!(reaped.ask(key));
    assert_eq!(
        (take(&mut reaped), take(&mut reaped)),
        (vec![], vec![key]),
        "a query after the reaping"
    );
}

/// The processes of `among` that hold one of `outputs`.
fn holders(outputs: [Option<FileId>; 2], among: &[ProcessKey]) -> Vec<ProcessKey> {
    let mut search = HolderSearch::new(outputs.into_iter().flatten().collect(), among.to_vec());
    // Interrupted as often as possible.
    while !search.advance(Instant::now()) {}
    let held: HashSet<ProcessKey> = search.into_holders().into_iter().map(|(key, _)| key).collect();
    among.iter().copied().filter(|key| held.contains(key)).collect()
}

/// Check that the process that holds a dead shell's output is found, and that there is no holder
/// after its end.
#[test]
fn the_holder_of_a_dead_shells_output_is_found() {
    let mut shell = Killed(spawn(
        Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; exit 5"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    ));
    let held = outputs(shell.pid());
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(shell.0.stdout.as_mut().unwrap()),
        &mut line,
    )
    .unwrap();
    let sleep = identify(line.trim().parse().unwrap()).unwrap();
    let shell_key = shell.key();
    assert_eq!(shell.0.wait().unwrap().code(), Some(5));
    let held = if held[0].is_some() { held } else { outputs(sleep.pid) };
    assert!(held[0].is_some() && held[1].is_none(), "/dev/null has no reader: {held:?}");
    let me = identify(process::id().cast_signed()).unwrap();
    let bystander = identify(1).unwrap();
    assert_eq!(holders(held, &[shell_key, sleep, bystander]), [sleep]);
    assert_eq!(holders(held, &[me, sleep]), [me, sleep], "the reader's end is the same pipe");
    assert!(holders([None, None], &[me, sleep]).is_empty());
    crate::sys::process::kill(sleep.pid, nix::libc::SIGKILL).unwrap();
    until("the holder is gone", || holders(held, &[sleep]).is_empty());
}

/// Check that a tree has all descendants of its root, and the known ones after their parents have
/// ended.
#[test]
fn a_tree_keeps_descendants_whose_parents_have_ended() {
    let mut root = Killed(spawn(
        Command::new("sh")
            .args(["-c", "(sleep 1000 & echo $!; wait) & wait"])
            .stdout(Stdio::piped()),
    ));
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(root.0.stdout.as_mut().unwrap()),
        &mut line,
    )
    .unwrap();
    let leaf: i32 = line.trim().parse().unwrap();
    let leaf_key = identify(leaf).unwrap();
    let tree = of_tree(root.pid(), &[]).unwrap();
    assert!(tree.contains(&root.pid()) && tree.contains(&leaf), "{tree:?}");
    let known: Vec<_> = tree.iter().filter_map(|pid| identify(*pid)).collect();
    root.0.kill().unwrap();
    root.0.wait().unwrap();
    assert!(!of_tree(root.pid(), &[]).unwrap().contains(&leaf));
    let still = of_tree(root.pid(), &known).unwrap();
    assert!(still.contains(&leaf) && !still.contains(&root.pid()), "{still:?}");
    for pid in still {
        assert!(known.iter().any(|key| key.pid == pid));
        crate::sys::process::kill(pid, nix::libc::SIGKILL).unwrap();
    }
    until("the leaf is gone", || {
        identify(leaf) != Some(leaf_key) || Stat::of(leaf).is_some_and(|it| it.is_dead())
    });
}

/// Check that a file system without an answer from its server holds up no search: here a fifo,
/// which a process opens without its server.
#[test]
fn a_server_that_hangs_does_not_hold_up_a_search() {
    use std::os::fd::AsRawFd as _;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    let fuse = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let fifo = tempfile::NamedTempFile::new().unwrap();
    let options = format!("fd={},rootmode=10666,user_id=0,group_id=0", fuse.as_raw_fd());
    mount(Some("none"), fifo.path(), Some("fuse"), MsFlags::empty(), Some(options.as_str()))
        .unwrap();
    let output = std::fs::File::options().read(true).write(true).open(fifo.path()).unwrap();
    let held = Killed(spawn(Command::new("sleep").arg("1000").stdout(output)));
    let key = held.key();
    let (sender, receiver) = std::sync::mpsc::channel();
    let search = std::thread::spawn(move || {
        let outputs = outputs(key.pid);
        sender.send((outputs, holders(outputs, &[key]))).unwrap();
    });
    let found = receiver.recv_timeout(std::time::Duration::from_secs(10));
    // Ends the connection, so that nothing waits for it any longer.
    drop(fuse);
    umount2(fifo.path(), MntFlags::MNT_DETACH).unwrap();
    search.join().unwrap();
    let (outputs, holders) = found.expect("the search asks no server");
    assert!(outputs[0].is_some(), "a fifo has a reader");
    assert_eq!(holders, [key]);
}
