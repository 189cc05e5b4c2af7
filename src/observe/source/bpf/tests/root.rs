//! The programs on the running kernel.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
        process::ExitStatusExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use super::{
    super::loader::load_with,
    stage::{Cgroup, Emission, Node, run, spawn},
};
use crate::{
    model::{Ended, FileId},
    observe::{
        record::{Record, TargetId, What},
        source::{Source as _, Target, bpf},
    },
};

const RING: u32 = 256 * 1024;

/// A program of thread groups that end in unusual ways.
fn threads(folder: &Path) -> std::path::PathBuf {
    let program = folder.join("threads");
    let source = folder.join("threads.c");
    fs::write(&source, include_str!("threads.c")).unwrap();
    assert!(
        run(Command::new("cc").args(["-O1", "-pthread", "-o"]).args([&program, &source])).success()
    );
    program
}

/// Check that of 2000 processes each start and each exit is told, with its own arguments and code.
#[test]
fn a_storm_is_told_whole() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(1 << 20);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "i=0; while [ $i -lt 2000 ]; do /bin/sh -c \"exit $((i % 256))\" arg$i; i=$((i+1)); done; exit 5";
    let mut shell = spawn(&mut cgroup.shell(script, &[]));
    let mut told = Emission::default();
    while shell.try_wait().unwrap().is_none() {
        told.drain(&mut source, cgroup.id());
    }
    told.drain(&mut source, cgroup.id());
    let counts = source.counts(cgroup.id()).unwrap();
    assert_eq!((counts.seen, counts.lost, told.lost), (6001, 0, 0));
    assert_eq!((told.whats.len(), told.forks()), (6001, 2000));
    let codes: HashMap<i32, Ended> = told.exits().into_iter().collect();
    let mut seen = HashSet::new();
    for (pid, args) in told.execs() {
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

/// Check that a ring that nobody reads loses, counts what it lost, and tells it.
#[test]
fn what_had_no_room_is_counted_and_told() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(4096);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut cgroup.shell("i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done", &[]));
    assert_eq!(source.counts(cgroup.id()).unwrap().seen, 301);
    let told = Emission::of(&mut source, cgroup.id());
    assert!(told.lost > 200, "{} lost", told.lost);
    assert!(told.whats.len() > 5, "{} told", told.whats.len());
}

/// Check that a loss is told where it happened: before the first record that came after it.
#[test]
fn a_loss_is_told_in_its_place() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(4096);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut cgroup.shell("i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done", &[]));
    let lost = source.counts(cgroup.id()).unwrap().lost;
    let mut records = Vec::new();
    // Not all: an empty ring would have the counters asked.
    assert!(source.read(8, &mut |record| records.push(record)).unwrap());
    assert!(records.iter().all(|record| matches!(record, Record::Process { .. })));
    run(&mut cgroup.shell("exit 0", &[]));
    while source.read(8, &mut |record| records.push(record)).unwrap() {}
    // A small record may still find room after a large one did not, so there can be more than one
    // loss.
    let told: u64 = records
        .iter()
        .filter_map(|record| match record {
            Record::Lost { target, count, .. } if *target == Some(cgroup.id()) => *count,
            _ => None,
        })
        .sum();
    assert_eq!(told, lost);
    let [.., before, last] = records.as_slice() else { panic!("{records:?}") };
    assert!(
        matches!((before, last), (Record::Lost { .. }, Record::Process { .. })),
        "{before:?}, {last:?}"
    );
}

/// Check that each way to end is told as wait(2) tells it.
#[test]
fn exits_are_told_as_wait_tells_them() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    for script in ["exit 0", "exit 5", "exit 255", "kill -KILL $$", "kill -TERM $$"] {
        let waited = run(&mut cgroup.shell(script, &[]));
        let told = Emission::of(&mut source, cgroup.id());
        source.unwatch(cgroup.id());
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
        let expected = Ended::from_wait_status(waited.into_raw().cast_unsigned());
        assert_eq!(
            told.exits().iter().map(|(_, ended)| *ended).collect::<Vec<_>>(),
            [expected],
            "{script}"
        );
    }
}

/// Check that a group whose leader ends first is told once, at the end, with the status that
/// wait(2) has.
#[test]
fn a_leader_that_ends_first_is_told_at_the_end() {
    let (node, cgroup, folder) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let program = threads(folder.path());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "exec \"$1\" leader";
    let mut child = spawn(cgroup.shell(script, &[program.as_os_str()]).stdin(Stdio::piped()));
    // The leader's own end: a zombie with a thread alive.
    let stat = || procfs::process::Process::new(child.id().cast_signed()).unwrap().stat().unwrap();
    while stat().state != 'Z' {
        std::thread::yield_now();
    }
    let before = Emission::of(&mut source, cgroup.id());
    assert_eq!((before.execs().len(), before.exits()), (1, Vec::new()));
    let pid = child.id().cast_signed();
    drop(child.stdin.take());
    let waited = child.wait().unwrap();
    let mut after = Emission::default();
    after.drain(&mut source, cgroup.id());
    assert_eq!(after.exits(), [(pid, Ended::from_wait_status(waited.into_raw().cast_unsigned()))]);
}

/// Check that threads that end at the same moment make one exit, not several.
#[test]
fn threads_that_race_to_the_end_make_one_exit() {
    let (node, cgroup, folder) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let program = threads(folder.path());
    let mut source = node.source(1 << 20);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut cgroup.shell("\"$1\" race", &[program.as_os_str()]));
    let told = Emission::of(&mut source, cgroup.id());
    let exits = told.exits();
    let pids: HashSet<i32> = exits.iter().map(|(pid, _)| *pid).collect();
    assert_eq!((told.lost, told.forks(), exits.len(), pids.len()), (0, 301, 302, 302));
    assert_eq!(exits.iter().filter(|(_, ended)| *ended == Ended::Code(4)).count(), 300);
}

/// Check that arguments are true bytes: empty ones, newlines, what is not UTF-8, and that what is
/// too long is cut and says how long it was.
#[test]
fn hostile_arguments_are_true_and_bounded() {
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
    let told = Emission::of(&mut source, cgroup.id());
    let execs = told.execs();
    let expected: Vec<Vec<u8>> = [&b"/bin/true"[..], b"", b"a\nb\x1b[31m", b"\xff\xfe", b""]
        .iter()
        .map(|arg| arg.to_vec())
        .collect();
    assert_eq!(execs[0].1, expected);
    let What::Exec { image, .. } =
        &told.whats.iter().rfind(|(_, what)| matches!(what, What::Exec { .. })).unwrap().1
    else {
        panic!("no exec");
    };
    let args = image.args.as_ref().unwrap();
    assert_eq!(
        (args.total_bytes, args.bytes.len(), args.count, args.truncated()),
        (100_011, 4096, 2, true)
    );
}

/// Check that the rest of an image is true: path, folder, name, user, and what its output is.
#[test]
fn an_image_and_its_outputs_are_true() {
    let (node, cgroup, folder) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let output = fs::File::create(folder.path().join("out")).unwrap();
    let metadata = output.metadata().unwrap();
    let mut shell = cgroup.shell("exec /bin/sh -c 'exit 0'", &[]);
    shell.current_dir(folder.path()).stdout(output).stderr(Stdio::null());
    run(&mut shell);
    let told = Emission::of(&mut source, cgroup.id());
    let What::Exec { image, lineage, cgroup: own, in_host_mounts } = &told.whats[0].1 else {
        panic!("no exec first")
    };
    let path = |path: &Path| Some(Box::from(path.as_os_str().as_bytes()));
    assert_eq!(image.executable, path(&fs::canonicalize("/bin/sh").unwrap()));
    assert_eq!(image.working_directory, path(&folder.path().canonicalize().unwrap()));
    assert_eq!(
        (image.comm.as_deref(), image.uid, image.gid, image.unknown),
        (Some(&b"sh"[..]), Some(0), Some(0), None)
    );
    assert_eq!((*own, *in_host_mounts), (None, Some(true)));
    let own = procfs::process::Process::myself().unwrap().stat().unwrap();
    assert_eq!(
        (lineage.parent_pid, lineage.parent_start_ticks, lineage.grandparent_pid),
        (own.pid, own.starttime, own.ppid)
    );
    let What::Exit { outputs, .. } = &told.whats[1].1 else { panic!("no exit") };
    assert_eq!(outputs[0], Some(FileId { device: metadata.dev(), inode: metadata.ino() }));
    assert_eq!(outputs[1].unwrap().inode, fs::metadata("/dev/null").unwrap().ino());
}

/// Check that a process of a cgroup below is told as the container's, with its own cgroup, and that
/// one of another cgroup is not told.
#[test]
fn a_nested_cgroup_belongs_and_a_foreign_one_does_not() {
    let (node, cgroup, foreign) = (Node::new(), Cgroup::new(), Cgroup::new());
    let middle = cgroup.below("middle");
    let inner = middle.below("inner");
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    run(&mut foreign.shell("/bin/true; /bin/true", &[]));
    run(&mut inner.shell("/bin/true", &[]));
    let told = Emission::of(&mut source, cgroup.id());
    assert_eq!((told.whats.len(), told.others), (4, 0));
    let What::Exec { cgroup: own, .. } = told.whats[1].1 else {
        panic!("no exec: {:?}", told.whats)
    };
    assert_eq!(own, Some(inner.id().0));
    drop((inner, middle));
}

/// Check that nested cgroups are found where a mount hides how deep the container's own lies, as in
/// a node that is a container itself.
#[test]
fn a_hidden_depth_does_not_hide_what_is_below() {
    let (node, outer, folder) = (Node::new(), Cgroup::new(), tempfile::tempdir().unwrap());
    let container = outer.below("container");
    let inner = container.below("inner");
    let none = None::<&str>;
    nix::mount::mount(Some(&outer.path), folder.path(), none, nix::mount::MsFlags::MS_BIND, none)
        .unwrap();
    let mut source = node.source(RING);
    let target = Target::Cgroup { path: folder.path().join("container"), pid_namespace: None };
    let watched = source.watch(container.id(), &target);
    nix::mount::umount2(folder.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    watched.unwrap();
    run(&mut inner.shell("/bin/true", &[]));
    assert_eq!(Emission::of(&mut source, container.id()).whats.len(), 4);
    drop((inner, container));
}

/// Check that a process that came into the pid namespace but not into the cgroup is told.
#[test]
fn a_pid_namespace_finds_what_the_cgroup_misses() {
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
    let namespace =
        u32::try_from(fs::metadata(format!("/proc/{child}/ns/pid")).unwrap().ino()).unwrap();
    let target = Target::Cgroup { path: cgroup.path.clone(), pid_namespace: Some(namespace) };
    source.watch(cgroup.id(), &target).unwrap();
    run(Command::new("nsenter").args([
        "--pid",
        "--target",
        &child.to_string(),
        "/bin/true",
        "injected",
    ]));
    let told = Emission::of(&mut source, cgroup.id());
    let (pid, _) =
        told.execs().into_iter().find(|(_, args)| args.last().unwrap() == b"injected").unwrap();
    let lineage = told.whats.iter().find_map(|(who, what)| match what {
        What::Exec { lineage, .. } if *who == pid => Some(*lineage),
        _ => None,
    });
    let lineage = lineage.unwrap();
    assert!(lineage.vpid.is_some_and(|vpid| vpid < 10), "{lineage:?}");
    drop(init.stdin.take());
    init.wait().unwrap();
}

/// Check that a tree is told with what lived already and what comes, wherever it goes, and that it
/// costs nobody anything once it is unwatched.
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
    assert_eq!(bpf::status(node.bpffs()).unwrap().processes, 2);
    std::io::Write::write_all(shell.stdin.as_mut().unwrap(), b"one\ntwo\n").unwrap();
    shell.wait().unwrap();
    let told = Emission::of(&mut source, id);
    let words: Vec<Vec<u8>> = told.execs().into_iter().map(|(_, args)| args[1].clone()).collect();
    assert_eq!(words, [b"deep".to_vec(), b"own".to_vec()]);
    assert_eq!(told.exits().last(), Some(&(pid.cast_signed(), Ended::Code(0))));
    assert_eq!(bpf::status(node.bpffs()).unwrap().processes, 0);
    source.unwatch(id);
    assert_eq!(source.counts(id), None);
    source.watch(id, &Target::Tree { pid: i32::MAX }).unwrap_err();
    source.watch(TargetId(1), &Target::Tree { pid: 1 }).unwrap_err();
}

/// Check that what a killed shim left is swept, and what a living one has is not.
#[test]
fn what_a_dead_shim_left_is_swept() {
    let (node, cgroup, other) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut living = node.source(RING);
    living.watch(cgroup.id(), &cgroup.target()).unwrap();
    // The test itself again, as the shim that gets killed.
    let mut dying = Command::new(std::env::current_exe().unwrap());
    dying.args([
        "--exact",
        "observe::source::bpf::tests::root::a_shim_that_waits",
        "--include-ignored",
        "--nocapture",
    ]);
    dying
        .env("LOOKOUT_TEST_BPFFS", node.bpffs())
        .env("LOOKOUT_TEST_CGROUP", &other.path)
        .stdin(Stdio::piped());
    let mut dying = spawn(dying.stdout(Stdio::null()));
    while bpf::status(node.bpffs()).unwrap().targets < 2 {
        assert!(dying.try_wait().unwrap().is_none(), "it ended by itself");
    }
    dying.kill().unwrap();
    dying.wait().unwrap();
    let left = bpf::status(node.bpffs()).unwrap();
    assert_eq!((left.slots, left.stale_slots, left.targets), (1, 1, 2));
    let swept = bpf::sweep(node.bpffs()).unwrap();
    assert_eq!((swept.slots, swept.targets), (1, 1));
    run(&mut cgroup.shell("exit 1", &[]));
    assert_eq!(Emission::of(&mut living, cgroup.id()).exits().len(), 1);
    drop(living);
    let after = bpf::status(node.bpffs()).unwrap();
    assert_eq!((after.slots, after.stale_slots, after.targets, after.links.len()), (0, 0, 0, 7));
}

/// Check that a loader that is killed at any step leaves nothing that the next one trips over:
/// after each death there is a whole set or none.
#[test]
fn a_loader_may_die_at_any_step() {
    let node = Node::new();
    let (mut none, mut whole) = (0, 0);
    // More than there are pins: the last round finds the whole set.
    for step in 0..22u32 {
        let mut loader = Command::new(std::env::current_exe().unwrap());
        loader.args([
            "--exact",
            "observe::source::bpf::tests::root::a_loader_that_is_killed",
            "--include-ignored",
        ]);
        let mut loader =
            spawn(loader.env("LOOKOUT_TEST_BPFFS", node.bpffs()).stdout(Stdio::null()));
        let folder = node.bpffs().join("lookout/loading");
        let set = node.bpffs().join(format!("lookout/v{}", bpf::ABI));
        // Each round waits for one pin more.
        while fs::read_dir(&folder).map_or(0, Iterator::count) < step as usize && !set.exists() {
            assert!(loader.try_wait().unwrap().is_none_or(|status| status.success()));
        }
        loader.kill().unwrap();
        loader.wait().unwrap();
        if set.exists() {
            whole += 1;
            let links = bpf::status(node.bpffs()).unwrap().links;
            assert!(links.iter().all(|link| link.ids.is_some()), "{links:?}");
            bpf::unpin(node.bpffs()).unwrap();
        } else {
            none += 1;
        }
    }
    assert!(none > 0 && whole > 0, "{none} died early, {whole} late");
    drop(node.source(RING));
    assert!(!node.bpffs().join("lookout/loading").exists());
}

/// Not a test by itself: the loader that [`a_loader_may_die_at_any_step`] kills.
#[test]
#[ignore = "run by another test"]
fn a_loader_that_is_killed() {
    bpf::load(Path::new(&std::env::var_os("LOOKOUT_TEST_BPFFS").unwrap())).unwrap();
}

/// Check that pins are not taken from a folder that somebody else could have filled.
#[test]
fn a_folder_that_is_open_to_others_is_not_trusted() {
    let node = Node::new();
    let folder = node.bpffs().join("lookout");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
    bpf::load(node.bpffs()).unwrap_err();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    bpf::load(node.bpffs()).unwrap();
    std::os::unix::fs::chown(&folder, Some(1), None).unwrap();
    bpf::BpfSource::open(node.bpffs(), RING, &mut || panic!("it is pinned")).unwrap_err();
}

/// Not a test by itself: the shim that [`what_a_dead_shim_left_is_swept`] kills.
#[test]
#[ignore = "run by another test"]
fn a_shim_that_waits() {
    let bpffs = std::path::PathBuf::from(std::env::var_os("LOOKOUT_TEST_BPFFS").unwrap());
    let path = std::path::PathBuf::from(std::env::var_os("LOOKOUT_TEST_CGROUP").unwrap());
    let mut source = bpf::BpfSource::open(&bpffs, RING, &mut || panic!("it is pinned")).unwrap();
    let id = TargetId(fs::metadata(&path).unwrap().ino());
    source.watch(id, &Target::Cgroup { path, pid_namespace: None }).unwrap();
    std::io::read_to_string(std::io::stdin()).unwrap();
}

/// Check that neither unpinning nor unmounting blinds a shim that watches.
#[test]
fn pins_may_go() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    bpf::load(node.bpffs()).unwrap();
    let status = bpf::status(node.bpffs()).unwrap();
    assert_eq!((status.versions, status.slots), (vec![format!("v{}", bpf::ABI)], 1));
    assert!(status.links.iter().all(|link| link.ids.is_some()), "{:?}", status.links);
    bpf::unpin(node.bpffs()).unwrap();
    assert!(!node.bpffs().join("lookout").exists());
    drop(node);
    let other = Cgroup::new();
    source.watch(other.id(), &other.target()).unwrap();
    run(&mut cgroup.shell("/bin/true", &[]));
    run(&mut other.shell("/bin/true", &[]));
    let told = Emission::of(&mut source, cgroup.id());
    assert_eq!((told.whats.len(), told.others), (4, 4));
}

/// Check that where UDP cannot be seen, for want of a unified hierarchy or because its root is
/// refused, all else is.
#[test]
fn without_udp_all_else_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    for unified in [None, Some(folder.path())] {
        let (node, cgroup) = (Node::new(), Cgroup::new());
        load_with(node.bpffs(), unified).unwrap();
        let mut source = node.source(RING);
        assert!(source.sees_ports() && !source.sees_udp());
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
        run(&mut cgroup.shell("/bin/true", &[]));
        assert_eq!(Emission::of(&mut source, cgroup.id()).whats.len(), 4);
        assert_eq!(bpf::status(node.bpffs()).unwrap().links.len(), 4);
    }
    assert!(Node::new().source(RING).sees_udp());
}

/// Check that this machine can have the source, as the README requires.
#[test]
fn the_kernel_offers_it() {
    bpf::probe().unwrap();
}

/// Not a test: prints what each program costs, in nanoseconds a run, for what is watched and for
/// what is not.
#[test]
#[ignore = "a measurement; wants a quiet machine"]
fn what_a_record_costs() {
    let (node, cgroup, foreign) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let _switch = BpfStats::on();
    let storm = Path::new(&std::env::var_os("LOOKOUT_TOOLS").expect("the folder of hack/setup"))
        .join("storm/bin");
    let programs = bpf::status(node.bpffs()).unwrap().links;
    let costs = || -> Vec<(u64, u64)> {
        let cost = |id: u32| {
            let program =
                libbpf_rs::query::ProgInfoIter::default().find(|program| program.id == id).unwrap();
            (program.run_time_ns, program.run_cnt)
        };
        programs.iter().map(|link| cost(link.ids.unwrap().1)).collect()
    };
    for (whose, cgroup) in
        [("watched", &cgroup), ("foreign", &foreign), ("watched", &cgroup), ("foreign", &foreign)]
    {
        let before = costs();
        let mut shell = spawn(
            &mut cgroup.shell("exec \"$1/storm\" 20000 1 0 \"$1/leaf\"", &[storm.as_os_str()]),
        );
        while shell.try_wait().unwrap().is_none() {
            let mut poll =
                [nix::poll::PollFd::new(source.fd().unwrap(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut poll, 10u16).unwrap();
            std::thread::sleep(source.interval());
            while source.read(256, &mut |_| {}).unwrap() {}
        }
        for ((link, before), after) in programs.iter().zip(&before).zip(costs()) {
            let runs = after.1 - before.1;
            println!("{whose} {}: {} ns, {runs} runs", link.name, (after.0 - before.0) / runs);
        }
    }
    println!("{:?}", source.counts(cgroup.id()));
}

/// The kernel's accounting of programs, on as long as this lives.
struct BpfStats {
    before: String,
}

impl BpfStats {
    const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn on() -> Self {
        let before = fs::read_to_string(Self::PATH).unwrap();
        fs::write(Self::PATH, "1").unwrap();
        Self { before }
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        fs::write(Self::PATH, &self.before).unwrap();
    }
}
