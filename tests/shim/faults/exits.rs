//! No exit is lost or reported twice, and each is reported in the right order.

use nix::sys::signal::Signal;

use containerd_shim_protos::ttrpc::proto::Code;

use crate::harness::{Behaviour, Node, Process, deadline};

/// How many execs of one container end at once.
const MANY: usize = 120;

/// Check that every exit is reported once, although the subscriber stalls while all of them happen
/// (containerd#12678, containerd#13849).
#[test]
fn no_exit_is_lost_on_a_slow_subscriber() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    daemon.set_behaviour(Behaviour::Stall);
    let execs: Vec<_> =
        (0..MANY).map(|number| shim.run_exec("web", &format!("e{number}"))).collect();
    for exec in &execs {
        exec.kill();
    }
    for number in 0..MANY {
        assert_eq!(shim.wait("web", &format!("e{number}")).unwrap().exit_status, 137);
    }
    daemon.set_behaviour(Behaviour::Acknowledge);
    shim.remove("web");
    daemon.wait_for("delete web 137");
    // On a slow machine an acknowledgement may be lost in the stall, so one event may come twice.
    let mut reported = daemon.event_lines();
    reported.dedup();
    for number in 0..MANY {
        let line = format!("exit web e{number} 137");
        assert_eq!(reported.iter().filter(|event| **event == line).count(), 1, "{line}");
    }
    assert_eq!(reported.len(), 4 + 3 * MANY);
}

/// Check that no exit is lost when SIGCHLDs coalesce: all processes end while the shim is stopped
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

/// Check that an init that dies before create returns makes an ended container, not a deadlock
/// (containerd#9103).
#[test]
fn an_init_that_dies_during_create_is_reported_like_any_other() {
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
    assert_eq!(daemon.event_lines(), ["create web", "exit web web 137", "delete web 137"]);
}

/// Check that a create fails if the runtime itself has reaped init, because its exit could never be
/// reported (containerd#9103).
#[test]
fn an_init_that_cannot_be_waited_for_fails_the_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime()
        .after("create", "kill -9 \"$spawned\"; sleep 0 & echo $! >\"$pid_file\"; wait; :");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert!(failure.message.contains("is not a child of this shim"), "{failure:?}");
    assert!(!node.runtime_root().join("test/web").exists());
}

/// Check that an init that dies between start's fork and its answer is reported as started, then as
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
    assert_eq!(daemon.event_lines(), ["create web", "start web", "exit web web 7"]);
}

/// Check that start is refused once init was killed, by any process (rust-extensions 6526c28).
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

/// Check that an exec's exit is reported before init's, and that every started exec has an exit,
/// when both end at about the same time (containerd#9719, containerd#10651).
#[test]
fn an_exec_that_ends_with_init_is_reported_first() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("probe", "exit 0");
    for round in 0..25 {
        node.runtime().payload("web", &format!("exec sleep 0.0{round:02}"));
        shim.run(&bundle);
        // The start is refused if init ended first.
        let _ = shim.exec("web", "probe").and_then(|_| shim.start("web", "probe"));
        shim.wait("web", "").unwrap();
        shim.delete("web", "").unwrap();
    }
    let deleted = |events: &[crate::harness::Event]| {
        let count = events.iter().filter(|event| event.line.starts_with("delete")).count();
        (count == 25).then_some(())
    };
    daemon.wait_until("25 deletes", deadline::PATIENCE, deleted);
    let reported = daemon.event_lines();
    for events in reported.split_inclusive(|line| line.starts_with("delete")) {
        let at = |words: &str| events.iter().position(|line| line.starts_with(words));
        let init = at("exit web web").unwrap();
        assert_eq!(at("exec-started").is_some(), at("exit web probe").is_some(), "{events:?}");
        assert!(at("exit web probe").is_none_or(|exec| exec < init), "{events:?}");
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
    // The runtime has already checked init when it is held.
    node.runtime().before("exec", "alive() { :; }");
    let hold = node.runtime().hold("exec");
    let start = shim.in_background(|task| task.start("web", "probe"));
    hold.wait_until_reached();
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
            .event_lines()
            .iter()
            .any(|line| line.starts_with("exec-started") || line.starts_with("exit web probe"))
    );
    shim.shut_down();
    node.wait_until_empty();
}

/// Check that a hanging exec does not delay the end of init forever (containerd#10651).
#[test]
fn an_exec_that_hangs_does_not_keep_the_end_of_init() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    let hold = node.runtime().hold("exec");
    let start = shim.in_background(|task| task.start("web", "probe"));
    let runtime = hold.wait_until_reached().process();
    init.kill();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    start.join().unwrap().unwrap_err();
    assert!(!runtime.lives());
    shim.delete("web", "").unwrap();
}

/// Check that processes ended by a real-time signal are reaped and reported like others: nix cannot
/// represent such a signal.
#[test]
fn an_exit_by_a_real_time_signal_is_reported() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.kill("web", "", 40).unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 168);
    daemon.wait_for("exit web web 168");
}
