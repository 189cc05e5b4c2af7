//! The programs on the running kernel: what they record.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    super::loader::load_with,
    stage::{Cgroup, Node, Received, run, spawn},
};
use crate::{
    linux::process::{identify, image},
    model::{Ended, FileId, ProcessKey},
    observe::{
        record::{Record, TargetId, What},
        source::{PidNamespace, Source as _, Target, bpf},
    },
};

mod cost;
mod fairness;
mod membership;
mod pins;
mod sockets;

/// Large enough for every test that does not lose records on purpose, in bytes.
const RING: u32 = 256 * 1024;

/// Compiles `threads.c`, a program with thread groups that end in unusual ways.
fn threads(directory: &Path) -> std::path::PathBuf {
    let program = directory.join("threads");
    let source = directory.join("threads.c");
    fs::write(&source, include_str!("threads.c")).unwrap();
    assert!(
        run(Command::new("cc").args(["-O1", "-pthread", "-o"]).args([&program, &source])).success()
    );
    program
}

/// Check that each start and each exit of 2000 processes is recorded, with its own arguments and
/// code.
#[test]
fn a_storm_is_recorded_completely() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(1 << 20);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "i=0; while [ $i -lt 2000 ]; do \
                  /bin/sh -c \"exit $((i % 256))\" arg$i; i=$((i+1)); done; exit 5";
    let mut shell = spawn(&mut cgroup.shell(script, &[]));
    let mut received = Received::default();
    while shell.try_wait().unwrap().is_none() {
        received.drain(&mut source, cgroup.id());
    }
    received.drain(&mut source, cgroup.id());
    let counts = source.counts(cgroup.id()).unwrap();
    // A fork, an exec and an exit of each process, and the exit of the shell.
    assert_eq!((counts.seen, counts.lost, received.lost), (6001, 0, 0));
    assert_eq!((received.whats.len(), received.forks()), (6001, 2000));
    let codes: HashMap<i32, Ended> = received.exits().into_iter().collect();
    // By the argument and not by the pid, which may be reused.
    let mut seen = HashSet::new();
    for (pid, args) in received.execs() {
        let number: u32 =
            std::str::from_utf8(&args[3]).unwrap().strip_prefix("arg").unwrap().parse().unwrap();
        let code = u8::try_from(number % 256).unwrap();
        assert_eq!(
            args[..3],
            [b"/bin/sh".to_vec(), b"-c".to_vec(), format!("exit {code}").into_bytes()]
        );
        assert_eq!(codes[&pid], Ended::Code(code));
        seen.insert(number);
    }
    assert_eq!(seen.len(), 2000);
}

/// Check that records that do not fit into a ring are counted, and that the loss is reported.
#[test]
fn lost_records_are_counted_and_reported() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    // One page, the smallest ring, which 301 records overflow.
    let mut source = node.source(4096);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut cgroup.shell("i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done", &[]));
    assert_eq!(source.counts(cgroup.id()).unwrap().seen, 301);
    let received = Received::of(&mut source, cgroup.id());
    assert!(received.lost > 200, "{} lost", received.lost);
    assert!(received.whats.len() > 5, "{} received", received.whats.len());
}

/// Check that a loss after which the container makes no record is reported at once, also by a
/// reader that waits without a timeout.
#[test]
fn a_loss_wakes_the_reader() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(4096);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    // Larger than the ring.
    let large = "x".repeat(5000);
    let mut shell = spawn(
        cgroup
            .shell(r#"read line; exec /bin/sh -c "kill -STOP \$\$" "$1""#, &[OsStr::new(&large)])
            .stdin(Stdio::piped()),
    );
    let until = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(cgroup.path.join("cgroup.procs")).unwrap().is_empty() {
        assert!(Instant::now() < until);
    }
    let mut received = Received::default();
    received.drain(&mut source, cgroup.id());
    assert!(source.wait_to_collect(&[]) || source.wait_to_collect(&[]), "nothing happens");
    shell.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut ring = [PollFd::new(source.fd().unwrap(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ring, PollTimeout::from(10_000u16)).unwrap(), 1, "the reader waits");
    received.drain(&mut source, cgroup.id());
    assert_eq!((received.lost, &received.whats[..]), (1, &[][..]));
    assert!(shell.try_wait().unwrap().is_none());
    shell.kill().unwrap();
    shell.wait().unwrap();
}

/// Check that a loss is reported where it happened: before the first record that follows it.
#[test]
fn a_loss_is_reported_in_its_place() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(4096);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut cgroup.shell("i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done", &[]));
    let lost = source.counts(cgroup.id()).unwrap().lost;
    let mut records = Vec::new();
    // Not all: an empty ring would report the loss from the counts, at the end.
    assert!(source.read(8, &mut |record| records.push(record)).unwrap());
    assert!(records.iter().all(|record| matches!(record, Record::Process { .. })));
    run(&mut cgroup.shell("exit 0", &[]));
    while source.read(8, &mut |record| records.push(record)).unwrap() {}
    // A small record may still fit after a large one did not, so there can be more than one loss.
    let reported: u64 = records
        .iter()
        .filter_map(|record| match record {
            Record::Lost { target, count, .. } if *target == Some(cgroup.id()) => *count,
            _ => None,
        })
        .sum();
    assert_eq!(reported, lost);
    let [.., before, last] = records.as_slice() else { panic!("{records:?}") };
    assert!(
        matches!((before, last), (Record::Lost { .. }, Record::Process { .. })),
        "{before:?}, {last:?}"
    );
}

/// Check that each kind of exit has the status that wait(2) returns.
#[test]
fn exits_have_the_status_of_wait() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    for script in ["exit 0", "exit 5", "exit 255", "kill -KILL $$", "kill -TERM $$"] {
        let waited = run(&mut cgroup.shell(script, &[]));
        let received = Received::of(&mut source, cgroup.id());
        // Begins the counts again, which `Received::of` compares with.
        source.unwatch(cgroup.id());
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
        let expected = Ended::from_wait_status(waited.into_raw().cast_unsigned());
        assert_eq!(
            received.exits().iter().map(|(_, ended)| *ended).collect::<Vec<_>>(),
            [expected],
            "{script}"
        );
    }
}

/// Check that a thread group has one exit even if its leader ends first: when its last thread ends,
/// with the status that wait(2) returns.
#[test]
fn a_group_without_its_leader_exits_once() {
    let (node, cgroup, directory) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let program = threads(directory.path());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "exec \"$1\" leader";
    let mut child = spawn(cgroup.shell(script, &[program.as_os_str()]).stdin(Stdio::piped()));
    // The leader has ended and the other thread has not: a zombie.
    let stat = || procfs::process::Process::new(child.id().cast_signed()).unwrap().stat().unwrap();
    while stat().state != 'Z' {
        std::thread::yield_now();
    }
    let before = Received::of(&mut source, cgroup.id());
    assert_eq!((before.execs().len(), before.exits()), (1, Vec::new()));
    let pid = child.id().cast_signed();
    drop(child.stdin.take());
    let waited = child.wait().unwrap();
    let mut after = Received::default();
    after.drain(&mut source, cgroup.id());
    assert_eq!(after.exits(), [(pid, Ended::from_wait_status(waited.into_raw().cast_unsigned()))]);
}

/// Check that threads that end at the same time make one exit, not several.
#[test]
fn threads_that_end_together_make_one_exit() {
    let (node, cgroup, directory) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let program = threads(directory.path());
    let mut source = node.source(1 << 20);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut cgroup.shell("\"$1\" race", &[program.as_os_str()]));
    let received = Received::of(&mut source, cgroup.id());
    let exits = received.exits();
    let pids: HashSet<i32> = exits.iter().map(|(pid, _)| *pid).collect();
    assert_eq!((received.lost, received.forks(), exits.len(), pids.len()), (0, 301, 302, 302));
    assert_eq!(exits.iter().filter(|(_, ended)| *ended == Ended::Code(4)).count(), 300);
}

/// Check that arguments are recorded byte by byte, also if they are empty, have newlines or are not
/// UTF-8, and that a long argument is cut and its full length is known.
#[test]
fn hostile_arguments_are_exact_and_bounded() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let long = "x".repeat(100_000);
    let hostile = [
        OsStr::new(""),
        OsStr::new("a\nb\u{1b}[31m"),
        OsStr::from_bytes(b"\xff\xfe"),
        OsStr::new(""),
    ];
    run(&mut cgroup.shell("/bin/true \"$@\"; exec /bin/true \"$1\" \"$0\"", &hostile));
    run(&mut cgroup.shell("/bin/true \"$1\"", &[OsStr::new(&long)]));
    let received = Received::of(&mut source, cgroup.id());
    let execs = received.execs();
    let expected: Vec<Vec<u8>> = [&b"/bin/true"[..], b"", b"a\nb\x1b[31m", b"\xff\xfe", b""]
        .iter()
        .map(|arg| arg.to_vec())
        .collect();
    assert_eq!(execs[0].1, expected);
    let What::Exec { image, .. } =
        &received.whats.iter().rfind(|(_, what)| matches!(what, What::Exec { .. })).unwrap().1
    else {
        panic!("no exec");
    };
    let args = image.args.as_ref().unwrap();
    assert_eq!(
        (args.total_bytes, args.bytes.len(), args.count, args.truncated()),
        (100_011, 4096, 2, true)
    );
}

/// Check the other parts of an image: path, working directory, name and user; and that an exit
/// names the files of the outputs.
#[test]
fn an_image_and_its_outputs_are_exact() {
    let (node, cgroup, directory) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let output = fs::File::create(directory.path().join("out")).unwrap();
    let metadata = output.metadata().unwrap();
    let mut shell = cgroup.shell("exec /bin/sh -c 'exit 0'", &[]);
    shell.current_dir(directory.path()).stdout(output).stderr(Stdio::null());
    run(&mut shell);
    let received = Received::of(&mut source, cgroup.id());
    let What::Exec { image, lineage, cgroup: own, in_host_mounts } = &received.whats[0].1 else {
        panic!("no exec first")
    };
    let path = |path: &Path| Some(path.as_os_str().as_bytes().into());
    assert_eq!(image.executable, path(&fs::canonicalize("/bin/sh").unwrap()));
    assert_eq!(image.working_directory, path(&directory.path().canonicalize().unwrap()));
    assert_eq!(
        (image.comm.as_deref(), image.uid, image.gid, image.unknown),
        (Some(&b"sh"[..]), Some(0), Some(0), None)
    );
    assert_eq!((*own, *in_host_mounts), (None, Some(true)));
    let own = procfs::process::Process::myself().unwrap().stat().unwrap();
    assert_eq!(
        (lineage.parent, lineage.grandparent_pid),
        (Some(ProcessKey::new(own.pid, own.starttime)), Some(own.ppid))
    );
    let What::Exit { outputs, .. } = &received.whats[1].1 else { panic!("no exit") };
    assert_eq!(outputs[0], Some(FileId { device: metadata.dev(), inode: metadata.ino() }));
    assert_eq!(outputs[1].unwrap().inode, fs::metadata("/dev/null").unwrap().ino());
}

/// Check that a process in a nested cgroup belongs to the container and names its cgroup, and that
/// a process in another cgroup is not recorded.
#[test]
fn a_nested_cgroup_belongs_and_a_foreign_one_does_not() {
    let (node, cgroup, foreign) = (Node::new(), Cgroup::new(), Cgroup::new());
    let middle = cgroup.below("middle");
    let inner = middle.below("inner");
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    // First the foreign cgroup: its records would precede the others.
    run(&mut foreign.shell("/bin/true; /bin/true", &[]));
    run(&mut inner.shell("/bin/true", &[]));
    let received = Received::of(&mut source, cgroup.id());
    assert_eq!((received.whats.len(), received.others), (4, 0));
    let What::Exec { cgroup: own, .. } = received.whats[1].1 else {
        panic!("no exec: {:?}", received.whats)
    };
    assert_eq!(own, Some(inner.id().0));
    drop((inner, middle));
}

/// Check that nested cgroups are found even if a mount hides the depth of the container's cgroup,
/// as in a node that is a container itself.
#[test]
fn a_hidden_depth_does_not_hide_nested_cgroups() {
    let (node, outer, directory) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let container = outer.below("container");
    let inner = container.below("inner");
    let none = None::<&str>;
    nix::mount::mount(
        Some(&outer.path),
        directory.path(),
        none,
        nix::mount::MsFlags::MS_BIND,
        none,
    )
    .unwrap();
    let mut source = node.source(RING);
    // Through the bind mount, which does not show the root of the hierarchy.
    let target = Target::Cgroup { path: directory.path().join("container"), pid_namespace: None };
    let watched = source.watch(container.id(), &target);
    nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    watched.unwrap();
    run(&mut inner.shell("/bin/true", &[]));
    assert_eq!(Received::of(&mut source, container.id()).whats.len(), 4);
    drop((inner, container));
}

/// Check that a process that entered the pid namespace but not the cgroup is recorded.
#[test]
fn a_pid_namespace_finds_a_process_outside_the_cgroup() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    let mut init = spawn(
        Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    );
    let unshare = init.id();
    let child = loop {
        let children =
            fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        if let Ok(pid) = children.trim().parse::<u32>() {
            break pid;
        }
    };
    let pid_namespace = PidNamespace::of(child.cast_signed());
    assert!(pid_namespace.is_some());
    let target = Target::Cgroup { path: cgroup.path.clone(), pid_namespace };
    source.watch(cgroup.id(), &target).unwrap();
    run(Command::new("nsenter").args([
        "--pid",
        "--target",
        &child.to_string(),
        "/bin/true",
        "injected",
    ]));
    let received = Received::of(&mut source, cgroup.id());
    let (pid, _) =
        received.execs().into_iter().find(|(_, args)| args.last().unwrap() == b"injected").unwrap();
    let lineage = received.whats.iter().find_map(|(who, what)| match what {
        What::Exec { lineage, .. } if *who == pid => Some(*lineage),
        _ => None,
    });
    let lineage = lineage.unwrap();
    assert!(lineage.vpid.is_some_and(|vpid| vpid < 10), "{lineage:?}");
    drop(init.stdin.take());
    init.wait().unwrap();
}

/// Check that a tree includes the processes that already run and those that follow, and that it has
/// no entries in the maps after it ended or was unwatched.
#[test]
fn a_tree_is_followed() {
    let node = Node::new();
    let mut source = node.source(RING);
    let script = "(read line; /bin/true deep; exit 3); read line; /bin/true own";
    let mut shell = spawn(Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()));
    let pid = shell.id();
    while fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().is_empty() {}
    let id = TargetId::made_up(1);
    source.watch(id, &Target::Tree { pid: pid.cast_signed() }).unwrap();
    // The shell and its subshell, which both run already.
    assert_eq!(bpf::status(node.bpffs()).unwrap().processes, 2);
    std::io::Write::write_all(shell.stdin.as_mut().unwrap(), b"one\ntwo\n").unwrap();
    shell.wait().unwrap();
    let received = Received::of(&mut source, id);
    let words: Vec<Vec<u8>> =
        received.execs().into_iter().map(|(_, args)| args[1].clone()).collect();
    assert_eq!(words, [b"deep".to_vec(), b"own".to_vec()]);
    assert_eq!(received.exits().last(), Some(&(pid.cast_signed(), Ended::Code(0))));
    assert_eq!(bpf::status(node.bpffs()).unwrap().processes, 0);
    source.unwatch(id);
    assert_eq!(source.counts(id), None);
    source.watch(id, &Target::Tree { pid: i32::MAX }).unwrap_err();
    // An id without the top bit may be the id of a cgroup.
    source.watch(TargetId(1), &Target::Tree { pid: 1 }).unwrap_err();
}

/// Check that a removed executable is reported with its last path and marked, and with the stack's
/// address that `/proc` shows too.
#[test]
fn a_removed_executable_is_marked() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("removed");
    fs::copy("/bin/sleep", &program).unwrap();
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "exec 3<\"$1\"; rm \"$1\"; exec /proc/self/fd/3 100";
    let mut process = spawn(&mut cgroup.shell(script, &[program.as_os_str()]));
    let received = Received::until(&mut source, cgroup.id(), |received| {
        received.execs().iter().any(|(_, args)| args.last().unwrap() == b"100")
    });
    let recorded = received.whats.iter().rev().find_map(|(_, what)| match what {
        What::Exec { image, .. } => Some(image.clone()),
        _ => None,
    });
    let recorded = recorded.unwrap();
    let pid = process.id().cast_signed();
    let (shown, _) = image(pid, identify(pid).unwrap());
    for image in [&*recorded, &shown] {
        assert_eq!(image.executable.as_deref(), Some(program.as_os_str().as_bytes()));
        assert!(image.executable_deleted);
    }
    assert!(recorded.stack.is_some());
    assert_eq!(recorded.stack, shown.stack);
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Check that processes and TCP are seen even if UDP is not, because there is no unified hierarchy
/// or the programs cannot be attached to its root.
#[test]
fn without_udp_everything_else_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    for unified in [None, Some(directory.path())] {
        let (node, cgroup) = (Node::new(), Cgroup::new());
        load_with(node.bpffs(), unified).unwrap();
        let mut source = node.source(RING);
        assert!(source.sees_ports() && !source.sees_udp());
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
        run(&mut cgroup.shell("/bin/true", &[]));
        assert_eq!(Received::of(&mut source, cgroup.id()).whats.len(), 4);
        assert_eq!(bpf::status(node.bpffs()).unwrap().links.len(), 4);
    }
    assert!(Node::new().source(RING).sees_udp());
}

/// Check that this machine meets the requirements of the source, as the README demands.
#[test]
fn the_kernel_meets_the_requirements() {
    bpf::probe().unwrap();
}
