//! No exit is lost, none is told twice, and each is told in its turn.

use nix::sys::signal::Signal;

use containerd_shim_protos::ttrpc::proto::Code;

use crate::harness::{Behaviour, Node, Process, deadline};

/// How many execs of one container end at once.
const MANY: usize = 120;

/// Check that every exit is told once, though the subscriber stalls while all of them happen
/// (containerd#12678, containerd#13849).
#[test]
fn no_exit_is_lost_on_a_slow_subscriber() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    daemon.behave(Behaviour::Stall);
    let execs: Vec<_> =
        (0..MANY).map(|number| shim.run_exec("web", &format!("e{number}"))).collect();
    for exec in &execs {
        exec.kill();
    }
    for number in 0..MANY {
        assert_eq!(shim.wait("web", &format!("e{number}")).unwrap().exit_status, 137);
    }
    daemon.behave(Behaviour::Acknowledge);
    shim.remove("web");
    daemon.wait_for("delete web 137");
    // On a slow machine the stall costs an acknowledgement, and one event comes twice.
    let mut story = daemon.story();
    story.dedup();
    for number in 0..MANY {
        let line = format!("exit web e{number} 137");
        assert_eq!(story.iter().filter(|told| **told == line).count(), 1, "{line}");
    }
    assert_eq!(story.len(), 4 + 3 * MANY);
}

/// Check that signals that coalesce hide no exit: all end while the shim is stopped
/// (containerd#13539).
#[test]
fn no_exit_is_lost_when_child_signals_coalesce() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let execs: Vec<_> =
        (0..MANY).map(|number| shim.run_exec("web", &format!("e{number}"))).collect();
    shim.process.signal(Signal::SIGSTOP);
    deadline::until("the stop", || shim.process.state() == Some('T'));
    for exec in &execs {
        exec.kill();
    }
    deadline::until("the zombies", || execs.iter().all(|exec| exec.state() == Some('Z')));
    shim.process.signal(Signal::SIGCONT);
    for number in 0..MANY {
        assert_eq!(shim.wait("web", &format!("e{number}")).unwrap().exit_status, 137);
    }
}

/// Check that an init that dies before create returns is a container that has ended, not a deadlock
/// (containerd#9103).
#[test]
fn an_init_that_dies_during_create_is_told_as_any() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().after("create", "kill -9 \"$spawned\"");
    shim.create(&bundle.create()).unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    shim.start("web", "").unwrap_err();
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    daemon.wait_for("delete web 137");
    assert_eq!(daemon.story(), ["create web", "exit web web 137", "delete web 137"]);
}

/// Check that an init that the runtime itself has reaped fails the create: nobody will ever tell
/// its exit (containerd#9103).
#[test]
fn an_init_that_nobody_can_wait_for_fails_the_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime()
        .after("create", "kill -9 \"$spawned\"; sleep 0 & echo $! >\"$pid_file\"; wait; :");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(failure.message.contains("is not a child of this shim"), "{failure:?}");
    assert!(!node.runtime_root().join("test/web").exists());
}

/// Check that an init that dies between start's fork and its answer is told as started, then as
/// ended (containerd 5cd6210ad).
#[test]
fn an_init_that_dies_during_start_was_started() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 7");
    node.runtime().after("start", "while kill -0 \"$pid\" 2>/dev/null; do :; done");
    shim.run(&bundle);
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 7);
    daemon.wait_for("exit web web 7");
    assert_eq!(daemon.story(), ["create web", "start web", "exit web web 7"]);
}

/// Check that start is refused once init was killed, whoever killed it (rust-extensions 6526c28).
#[test]
fn a_start_after_a_kill_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = Process::new(shim.create(&bundle.create()).unwrap().pid);
    init.kill();
    shim.wait("web", "").unwrap();
    assert_eq!(shim.start("web", "").unwrap_err().message, "cannot start a stopped process");
    shim.delete("web", "").unwrap();
}

/// Check that an exec's exit comes before init's, and that no exec that was started lacks one, when
/// both end at about the same time (containerd#9719, containerd#10651).
#[test]
fn an_exec_that_ends_with_init_is_told_first() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("probe", "exit 0");
    for round in 0..25 {
        node.runtime().payload("web", &format!("exec sleep 0.0{round:02}"));
        shim.run(&bundle);
        // Refused where init was faster.
        let _ = shim.exec("web", "probe").and_then(|_| shim.start("web", "probe"));
        shim.wait("web", "").unwrap();
        shim.delete("web", "").unwrap();
    }
    let deleted = |events: &[crate::harness::Event]| {
        let count = events.iter().filter(|event| event.line.starts_with("delete")).count();
        (count == 25).then_some(())
    };
    daemon.wait_until("25 deletes", deadline::PATIENCE, deleted);
    let story = daemon.story();
    for life in story.split_inclusive(|line| line.starts_with("delete")) {
        let at = |words: &str| life.iter().position(|line| line.starts_with(words));
        let init = at("exit web web").unwrap();
        assert_eq!(at("exec-started").is_some(), at("exit web probe").is_some(), "{life:?}");
        assert!(at("exit web probe").is_none_or(|exec| exec < init), "{life:?}");
    }
}

/// Check that an exec that starts after init has died, in a pid namespace that does not die with
/// it, fails and leaves no process (containerd#10589).
#[test]
fn an_exec_that_outlives_a_dead_init_is_killed() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    // The runtime has looked at init already when it is held.
    node.runtime().before("exec", "alive() { :; }");
    let hold = node.runtime().hold("exec");
    let start = shim.beside(|task| task.start("web", "probe"));
    hold.reached();
    init.kill();
    deadline::until("the end of init", || !init.lives());
    node.runtime().wait_for_calls("kill", 1);
    hold.release();
    let failure = start.join().unwrap().unwrap_err();
    assert_eq!(failure.code, Some(Code::FAILED_PRECONDITION), "{failure:?}");
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    shim.delete("web", "").unwrap();
    daemon.wait_for("delete web 137");
    assert!(
        !daemon
            .story()
            .iter()
            .any(|line| line.starts_with("exec-started") || line.starts_with("exit web probe"))
    );
    shim.shut_down();
    node.is_deserted();
}

/// Check that an exec whose runtime hangs does not keep the end of init for ever
/// (containerd#10651).
#[test]
fn an_exec_that_hangs_does_not_keep_the_end_of_init() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    let hold = node.runtime().hold("exec");
    let start = shim.beside(|task| task.start("web", "probe"));
    let runtime = hold.reached().process();
    init.kill();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    start.join().unwrap().unwrap_err();
    assert!(!runtime.lives());
    shim.delete("web", "").unwrap();
}

/// Check that processes that a real-time signal ended are reaped and told like others: nix refuses
/// to name such a signal.
#[test]
fn an_end_by_a_real_time_signal_is_told() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.kill("web", "", 40).unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 168);
    daemon.wait_for("exit web web 168");
}
