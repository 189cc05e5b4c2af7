//! Sockets that are remembered until they close, of which each target has a share.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use libbpf_rs::{MapCore as _, MapFlags};

use super::{
    super::{
        super::layout::{LISTENERS, Plain as _, SHARED_LISTENERS},
        stage::{Cgroup, Node, run, spawn},
    },
    RING,
};
use crate::observe::{
    record::{Record, TargetId},
    source::{Source as _, bpf},
};

/// A program that binds as many UDP sockets as its argument says, writes a line, and closes them
/// when its standard input ends.
fn binder(directory: &Path) -> PathBuf {
    let program = directory.join("sockets");
    let source = directory.join("sockets.c");
    fs::write(&source, include_str!("sockets.c")).unwrap();
    assert!(run(Command::new("cc").args(["-O1", "-o"]).args([&program, &source])).success());
    program
}

/// Runs the program in the cgroup, until it has bound its sockets.
fn bind(cgroup: &Cgroup, program: &Path, count: u32) -> Child {
    let mut child = spawn(
        cgroup
            .shell(&format!("exec \"$1\" {count}"), &[program.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let mut line = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"bound\n");
    child
}

fn close(mut child: Child) {
    child.stdin.take().unwrap().flush().unwrap();
    assert!(child.wait().unwrap().success());
}

/// The numbers of binds, closes and lost records of a target.
fn counts(source: &mut bpf::BpfSource, id: TargetId) -> (u32, u32, u64) {
    let (mut binds, mut closes, mut lost) = (0, 0, 0);
    while source
        .read(64, &mut |record| match record {
            Record::Listen { target, .. } if target == id => binds += 1,
            Record::Unlisten { target, .. } if target == id => closes += 1,
            Record::Lost { target: Some(target), count: Some(count), .. } if target == id => {
                lost += count;
            }
            _ => {}
        })
        .unwrap()
    {}
    (binds, closes, lost)
}

/// Check that a target which binds sockets without end loses the closes of its own sockets, each of
/// which is counted, and that those of another target are reported.
#[test]
fn a_target_has_a_share_of_the_remembered_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let program = binder(directory.path());
    let (node, greedy, modest) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut source = node.source(RING);
    for cgroup in [&greedy, &modest] {
        source.watch(cgroup.id(), &cgroup.target()).unwrap();
    }
    // As if all but 100 of the entries were in use. Half of those are left to the others.
    let entries = node.entries();
    let set = |number: u32| {
        let key = SHARED_LISTENERS.to_bytes();
        entries.update(&key, &number.to_bytes(), MapFlags::ANY).unwrap();
    };
    set(LISTENERS - 100);
    let greedy_sockets = bind(&greedy, &program, 200);
    assert_eq!(counts(&mut source, greedy.id()), (200, 0, 150));
    let modest_sockets = bind(&modest, &program, 20);
    close(modest_sockets);
    assert_eq!(counts(&mut source, modest.id()), (20, 20, 0));
    close(greedy_sockets);
    assert_eq!(counts(&mut source, greedy.id()), (0, 50, 0));
    // Everything is given back.
    let left = entries.lookup(&SHARED_LISTENERS.to_bytes(), MapFlags::ANY).unwrap().unwrap();
    assert_eq!(left, (LISTENERS - 100).to_bytes());
    assert_eq!(bpf::status(node.bpffs()).unwrap().refused, 150);
    for cgroup in [&greedy, &modest] {
        let counts = source.counts(cgroup.id()).unwrap();
        assert_eq!(counts.lost, if cgroup.id() == greedy.id() { 150 } else { 0 });
    }
}
