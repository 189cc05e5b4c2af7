//! To which target the programs attribute a process: to that of its forker, wherever it moves.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use libbpf_rs::{MapCore as _, MapFlags};

use super::{
    super::{
        super::layout::{MEMBERS, Plain as _, SHARED_MEMBERS},
        stage::{Cgroup, Node, Received, run, spawn},
    },
    RING,
};
use crate::{
    model::Ended,
    observe::{
        record::{CallId, Provenance, Record, TargetId, What},
        source::{CallMarker, PidNamespace, Source as _, Target, bpf},
    },
};

/// Compiles `births.c`.
fn births(directory: &Path) -> PathBuf {
    let program = directory.join("births");
    let source = directory.join("births.c");
    fs::write(&source, include_str!("births.c")).unwrap();
    assert!(run(Command::new("cc").args(["-O1", "-o"]).args([&program, &source])).success());
    program
}

/// The pid of the parent that the fork of `pid` names.
fn forker(received: &Received, pid: i32) -> Option<i32> {
    received.whats.iter().find_map(|(who, what)| match what {
        What::Fork(lineage) if *who == pid => lineage.parent_pid(),
        _ => None,
    })
}

/// The pid of the only process that exited with `code`.
fn exited(received: &Received, code: u8) -> i32 {
    let exits = received.exits();
    let mut of_code = exits.iter().filter(|(_, ended)| *ended == Ended::Code(code));
    let (pid, _) = of_code.next().unwrap_or_else(|| panic!("no exit {code} in {exits:?}"));
    assert_eq!(of_code.next(), None);
    *pid
}

/// Check that the parent of a process is the one that forked it, although CLONE_PARENT gives it
/// another parent, and although a thread forked it.
#[test]
fn the_forker_is_the_parent() {
    let directory = tempfile::tempdir().unwrap();
    let program = births(directory.path());
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    for (way, code) in [("sibling", 7), ("threaded", 6)] {
        let script = format!("exec \"$1\" {way}");
        let mut process = spawn(&mut cgroup.shell(&script, &[program.as_os_str()]));
        process.wait().unwrap();
        let received = Received::until(&mut source, cgroup.id(), |received| {
            received.exits().iter().any(|(_, ended)| *ended == Ended::Code(code))
        });
        let child = exited(&received, code);
        assert_eq!(forker(&received, child), Some(process.id().cast_signed()), "{way}");
        if way == "sibling" {
            assert_eq!(forker(&received, exited(&received, 8)), Some(child));
        }
        source.unwatch(cgroup.id());
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
    }
}

/// Check that an exec names the forker too, as it may be the first record that is delivered.
#[test]
fn an_exec_names_the_forker() {
    let directory = tempfile::tempdir().unwrap();
    let program = births(directory.path());
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "exec \"$1\" sibling-exec /bin/true impostor";
    let mut process = spawn(&mut cgroup.shell(script, &[program.as_os_str()]));
    process.wait().unwrap();
    let received = Received::until(&mut source, cgroup.id(), |received| {
        received.execs().iter().any(|(_, args)| args[0] == b"/bin/true")
    });
    let parent = received.whats.iter().find_map(|(_, what)| match what {
        What::Exec { lineage, image, .. } => {
            let args = image.args.as_ref()?;
            (args.iter().next() == Some(b"/bin/true")).then_some(lineage.parent_pid()?)
        }
        _ => None,
    });
    assert_eq!(parent, Some(process.id().cast_signed()));
}

/// Check that a process that is moved into another cgroup stays with its target, with everything
/// that it forks there, also if that cgroup is another target or the target is the root's.
#[test]
fn a_process_stays_with_its_target_after_a_move() {
    let (node, cgroup, neighbour) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    source.watch(neighbour.id(), &neighbour.target()).unwrap();
    let root = neighbour.path.parent().unwrap();
    let script = "for to in \"$1\" \"$2\"; do \
                  /bin/sh -c 'echo $$ >\"$0\"/cgroup.procs && /bin/true moved && exit 3' \"$to\"; \
                  done; exit 0";
    let args: [&OsStr; 2] = [neighbour.path.as_os_str(), root.as_os_str()];
    spawn(&mut cgroup.shell(script, &args)).wait().unwrap();
    let received = Received::of(&mut source, cgroup.id());
    let moved = received.execs().into_iter().filter(|(_, args)| args.last().unwrap() == b"moved");
    assert_eq!(moved.count(), 2);
    let exits = received.exits();
    assert_eq!(exits.iter().filter(|(_, ended)| *ended == Ended::Code(3)).count(), 2);
    // Two shells with two children, and the first shell, whose fork was outside.
    assert_eq!((received.forks(), exits.len()), (4, 5));
    assert_eq!(source.counts(neighbour.id()).unwrap().seen, 0);
}

/// A process that runs `cat` as the init of a new pid namespace, with a pipe as its input.
fn namespace_init() -> (Child, i32) {
    let unshare = spawn(
        Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    );
    let init = only_child(unshare.id());
    (unshare, init)
}

/// Waits for the first child of a process.
fn only_child(of: u32) -> i32 {
    loop {
        let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
        if let Ok(child) = children.trim().parse() {
            return child;
        }
    }
}

/// Check that a process in a pid namespace below the watched one is found, although its own
/// namespace and its cgroup are not watched.
#[test]
fn a_nested_pid_namespace_belongs_to_the_watched_one() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    let script = "unshare --pid --fork /bin/sh -c 'read line; /bin/true deep; exit 4'; exit 5";
    let mut outer = spawn(
        Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "/bin/sh", "-c", script])
            .stdin(Stdio::piped()),
    );
    let init = only_child(outer.id());
    let nested = only_child(only_child(init.cast_unsigned()).cast_unsigned());
    assert_ne!(PidNamespace::of(nested).unwrap().inode, PidNamespace::of(init).unwrap().inode);
    let target =
        Target::Cgroup { path: cgroup.path.clone(), pid_namespace: PidNamespace::of(init) };
    source.watch(cgroup.id(), &target).unwrap();
    outer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    outer.wait().unwrap();
    let received = Received::of(&mut source, cgroup.id());
    assert!(received.execs().iter().any(|(_, args)| args.last().unwrap() == b"deep"));
    assert!(received.exits().contains(&(nested, Ended::Code(4))));
}

/// Check that the entry of a pid namespace goes when its init exits, because the kernel may give
/// its number to the next namespace, and that a namespace that has ended already gets none.
#[test]
fn the_end_of_a_pid_namespace_removes_it() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    let (mut unshare, init) = namespace_init();
    let pid_namespace = PidNamespace::of(init);
    let target = Target::Cgroup { path: cgroup.path.clone(), pid_namespace };
    source.watch(cgroup.id(), &target).unwrap();
    assert_eq!(bpf::status(node.bpffs()).unwrap().namespaces, 1);
    drop(unshare.stdin.take());
    unshare.wait().unwrap();
    assert_eq!(bpf::status(node.bpffs()).unwrap().namespaces, 0);
    source.unwatch(cgroup.id());
    source.watch(cgroup.id(), &target).unwrap();
    assert_eq!(bpf::status(node.bpffs()).unwrap().namespaces, 0);
}

/// Check that a process without room in the map of members is still recorded, and that the missing
/// entry is counted as a loss of its target.
#[test]
fn a_member_without_room_counts_as_a_loss() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let entries = node.entries();
    let set = |number: u32| {
        entries.update(&SHARED_MEMBERS.to_bytes(), &number.to_bytes(), MapFlags::ANY).unwrap();
    };
    set(MEMBERS);
    spawn(&mut cgroup.shell("/bin/true full; exit 0", &[])).wait().unwrap();
    set(0);
    let received = Received::of(&mut source, cgroup.id());
    // The fork and the exec of /bin/true, each of which would have made the entry.
    assert_eq!(received.lost, 2);
    assert!(received.execs().iter().any(|(_, args)| args.last().unwrap() == b"full"));
    assert_eq!(received.exits().len(), 2);
}

/// Check that the counts of members return to zero after a storm, so that no entry leaks.
#[test]
fn members_leave_at_their_exit() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(1 << 20);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true & i=$((i+1)); done; wait";
    spawn(&mut cgroup.shell(script, &[])).wait().unwrap();
    Received::of(&mut source, cgroup.id());
    assert_eq!(bpf::status(node.bpffs()).unwrap().processes, 0);
    let value = node.entries().lookup(&SHARED_MEMBERS.to_bytes(), MapFlags::ANY).unwrap();
    assert_eq!(value.unwrap(), 0u32.to_bytes());
}

/// The last argument and the provenance of each exec of /bin/true, without the start.
fn execs(source: &mut bpf::BpfSource, id: TargetId) -> Vec<(String, Provenance)> {
    let mut found = Vec::new();
    let mut take = |record| {
        if let Record::Process { target, provenance, what: What::Exec { image, .. }, .. } = record
            && target == id
        {
            let args: Vec<&[u8]> = image.args.as_ref().unwrap().iter().collect();
            if let [b"/bin/true", word] = args[..] {
                let provenance = Provenance { start_ns: 0, ..provenance.unwrap() };
                found.push((String::from_utf8(word.to_vec()).unwrap(), provenance));
            }
        }
    };
    while source.read(64, &mut take).unwrap() {}
    found
}

/// Check that what the shim spawns for a call, and all that descends from it, has the number of the
/// call, in the container and beside it, and that other children of the shim have none.
#[test]
fn a_call_marks_its_processes() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let marker = source.call_marker().unwrap();
    let call = CallId(7);
    let script = "/bin/true outside; echo $$ >\"$0\"/cgroup.procs; /bin/true inside; exit 0";
    let mut runtime = Command::new("/bin/sh");
    runtime.args(["-c", script]).arg(&cgroup.path);
    marker.spawn_begins(call, Some(cgroup.id())).unwrap();
    let mut marked = spawn(&mut runtime);
    marker.spawn_ended();
    marked.wait().unwrap();
    let of_call =
        |is_inside| Provenance { start_ns: 0, call: Some(call), is_born: true, is_inside };
    spawn(&mut runtime).wait().unwrap();
    let entered = Provenance::default();
    let expected = [("outside", of_call(false)), ("inside", of_call(true)), ("inside", entered)];
    assert_eq!(
        execs(&mut source, cgroup.id()),
        expected.map(|(word, provenance)| (word.to_owned(), provenance))
    );
    marker.ended(call);
}

/// Check that the processes of a call without a target belong to no target while the call lasts,
/// although they enter one, and that its end changes that.
#[test]
fn a_call_without_a_target_is_withheld_while_it_lasts() {
    let (node, cgroup) = (Node::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let marker = source.call_marker().unwrap();
    let call = CallId(8);
    let script = "echo $$ >\"$0\"/cgroup.procs; /bin/true withheld; read line; /bin/true free";
    let mut runtime = Command::new("/bin/sh");
    runtime.args(["-c", script]).arg(&cgroup.path).stdin(Stdio::piped());
    marker.spawn_begins(call, None).unwrap();
    let mut marked = spawn(&mut runtime);
    marker.spawn_ended();
    let procs = cgroup.path.join("cgroup.procs");
    while fs::read_to_string(&procs).unwrap().is_empty() {}
    while fs::read_to_string(&procs).unwrap().lines().count() > 1 {}
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(source.counts(cgroup.id()).unwrap().seen, 0);
    marker.ended(call);
    marked.stdin.take().unwrap().write_all(b"go\n").unwrap();
    marked.wait().unwrap();
    let words: Vec<String> = execs(&mut source, cgroup.id()).into_iter().map(|of| of.0).collect();
    assert_eq!(words, ["free"]);
}

/// A shell that a call without a target makes, in a cgroup, where it waits for a line and then runs
/// `/bin/true WORD`.
fn made_by(marker: &dyn CallMarker, call: CallId, within: &Cgroup, word: &str) -> Child {
    let script = "echo $$ >\"$0\"/cgroup.procs; echo; read line; /bin/true \"$1\"; exit 0";
    let mut runtime = Command::new("/bin/sh");
    runtime.args(["-c", script]).arg(&within.path).arg(word);
    runtime.stdin(Stdio::piped()).stdout(Stdio::piped());
    marker.spawn_begins(call, None).unwrap();
    let mut made = spawn(&mut runtime);
    marker.spawn_ended();
    made.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    made
}

/// Check that a new container gets the processes that its own create has made, but none of another
/// create, although both are in its cgroup; and that a container with a cgroup around it gets none
/// of them, even if it is watched before the new container is.
#[test]
fn a_container_gets_what_its_own_create_has_made() {
    let (node, outer) = (Node::new(), Cgroup::new());
    let inner = outer.below("inner");
    let mut source = node.source(RING);
    let marker = source.call_marker().unwrap();
    let (own, other) = (CallId(9), CallId(10));
    let mut init = made_by(&*marker, own, &inner, "init");
    let mut stranger = made_by(&*marker, other, &inner, "stranger");
    source.watch(outer.id(), &outer.target()).unwrap();
    source.watch(inner.id(), &inner.target()).unwrap();
    source.add_created(inner.id(), &inner.path, init.id().cast_signed()).unwrap();
    marker.ended(own);
    // As a member, init stays with its container wherever it is moved.
    fs::write(outer.path.join("cgroup.procs"), init.id().to_string()).unwrap();
    for made in [&mut init, &mut stranger] {
        made.stdin.take().unwrap().write_all(b"go\n").unwrap();
        made.wait().unwrap();
    }
    marker.ended(other);
    let mut words = vec![];
    let mut take = |record| {
        if let Record::Process { target, what: What::Exec { image, .. }, .. } = record {
            let word = image.args.as_ref().unwrap().iter().last().unwrap().to_vec();
            words.push((target, String::from_utf8(word).unwrap()));
        }
    };
    while source.read(64, &mut take).unwrap() {}
    assert_eq!(words, [(inner.id(), "init".to_owned())]);
}
