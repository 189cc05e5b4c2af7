//! Children of the shim that it did not start, beside those that it waits for.

use std::time::Duration;

use crate::harness::{Node, Process, deadline};

/// A payload that creates orphans, one after the other.
const ORPHANS: &str = "while :; do (sh -c : &) ; done";

/// Check that orphans of a container that shares the pid namespace are reaped without an event
/// (kubernetes#81042).
#[test]
fn orphans_are_reaped_and_not_reported() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload(
        "web",
        "i=0; while [ $i -lt 300 ]; do (sh -c : &); i=$((i+1)); done; exec sleep 600",
    );
    let init = shim.run(&bundle);
    let is_asleep = || init.command_line().first().is_some_and(|name| name == "sleep");
    deadline::until("the last orphan", is_asleep);
    deadline::until("no child but init", || shim.process.children() == [init]);
    shim.remove("web");
    daemon.wait_for("delete web 137");
    assert_eq!(
        daemon.event_lines(),
        ["create web", "start web", "exit web web 137", "delete web 137"]
    );
}

/// Check that many dying orphans do not take the exit status of the runtime's calls
/// (rust-extensions#37, containerd#2855).
#[test]
fn orphans_do_not_take_the_runtimes_exit_status() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", ORPHANS);
    shim.run(&bundle);
    for _ in 0..150 {
        shim.kill("web", "", 0).unwrap();
    }
    node.runtime().before("update", "exit 3");
    for _ in 0..20 {
        let failure = shim.update("web", "{}").unwrap_err();
        assert!(failure.message.contains("exit status 3"), "{failure:?}");
    }
    shim.remove("web");
}

/// Check that execs keep their own exit statuses among orphans (rust-extensions eef8806).
#[test]
fn execs_keep_their_status_among_orphans() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", ORPHANS);
    shim.run(&bundle);
    for status in 0..40 {
        let exec_id = format!("e{status}");
        node.runtime().payload(&exec_id, &format!("exit {status}"));
        shim.run_exec("web", &exec_id);
        assert_eq!(shim.wait("web", &exec_id).unwrap().exit_status, status);
        shim.delete("web", &exec_id).unwrap();
    }
    shim.remove("web");
}

/// How many exits of unknown processes a shim keeps while a call of the runtime lasts.
const KEPT: usize = 4096;

/// Check that orphans that die while a call of the runtime lasts do not take memory without a
/// bound, and do not push out an exit that the call will claim: neither one from before them, nor
/// one that comes when no more is kept.
#[test]
fn a_flood_of_orphans_pushes_no_exit_out() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let shim = node.shim(&bundle);
    node.runtime().payload("early", "exit 7");
    node.runtime().payload("late", "exit 9");
    let [flooded, go] = ["flooded", "go"].map(|name| node.path().join(name));
    node.runtime().after(
        "exec",
        &format!(
            "[ \"$exec_id\" = early.pid ] || return 0
            while kill -0 $spawned 2>/dev/null; do :; done
            i=0; while [ $i -lt {orphans} ]; do ( : & ); i=$((i+1)); done
            : >{flooded}; while [ ! -e {go} ]; do sleep 0.01; done",
            orphans = KEPT + 500,
            flooded = flooded.display(),
            go = go.display(),
        ),
    );
    let init = shim.run(&bundle);
    shim.exec("web", "early").unwrap();
    let early = shim.in_background(|task| task.start("web", "early"));
    deadline::within(Duration::from_secs(60), "the flood", || flooded.exists());
    let zombies =
        || shim.process.children().iter().filter(|child| child.state() == Some('Z')).count();
    // The exit of `early` is one of those that are kept.
    deadline::until("the zombies beyond the bound", || zombies() == 501);
    shim.run_exec("web", "late");
    assert_eq!(shim.wait("web", "late").unwrap().exit_status, 9);
    std::fs::write(go, "").unwrap();
    early.join().unwrap().unwrap();
    assert_eq!(shim.wait("web", "early").unwrap().exit_status, 7);
    deadline::until("no child but init", || shim.process.children() == [init]);
    shim.remove("web");
}

/// Check that a process that the runtime leaves behind outside the container does not hold up
/// requests.
#[test]
fn a_runtime_that_leaves_a_child_is_not_waited_for() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    // The child holds the runtime's stdout and stderr open.
    for verb in ["create", "start", "kill", "delete"] {
        node.runtime().before(verb, "sleep 600 &");
    }
    shim.run(&bundle);
    shim.remove("web");
}

/// Check that the shim signals only its own children: a pid that now belongs to another process is
/// not signalled (containerd#4204).
#[test]
fn a_dead_execs_pid_is_not_signalled() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("probe", "exit 0");
    shim.run(&bundle);
    shim.run_exec("web", "probe");
    shim.wait("web", "probe").unwrap();
    assert_eq!(
        shim.kill("web", "probe", 9).unwrap_err().message,
        "process already finished: not found"
    );
    assert!(Process::new(std::process::id()).lives());
}
