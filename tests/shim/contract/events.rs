//! Promise P1: each event reaches containerd, in order, however long containerd is away.

use std::{fs, time::Duration};

use containerd_shim_protos::{
    events::task::{TaskCreate, TaskDelete, TaskExit},
    ttrpc::proto::Code,
};

use crate::harness::{Behaviour, Node, deadline};

/// Check that events have the fields that containerd's clients read.
#[test]
fn events_carry_what_they_are_about() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.remove("web");
    daemon.wait_for("delete web 137");
    for event in daemon.events() {
        assert_eq!(event.envelope.namespace, "test");
        assert_eq!(event.pid, init.pid.unsigned_abs(), "{}", event.line);
        let topic = event.envelope.topic.trim_start_matches("/tasks/").to_owned();
        assert!(event.line.starts_with(&topic), "{topic}: {}", event.line);
        assert!(event.envelope.timestamp.seconds > 1_700_000_000);
    }
    let create: TaskCreate = daemon.wait_for("create web").message();
    assert_eq!(create.bundle, bundle.path.to_string_lossy());
    assert!(create.io.is_some());
    let exit: TaskExit = daemon.wait_for("exit web web 137").message();
    let delete: TaskDelete = daemon.wait_for("delete web 137").message();
    assert!(exit.exited_at.is_some());
    assert_eq!(exit.exited_at, delete.exited_at);
}

/// Check that each event is delivered once, over one connection, while containerd acknowledges.
#[test]
fn acknowledged_events_are_delivered_once() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 0");
    for _ in 0..20 {
        shim.run(&bundle);
        shim.wait("web", "").unwrap();
        shim.delete("web", "").unwrap();
    }
    let reported = daemon.wait_for_count(80);
    let expected = ["create web", "start web", "exit web web 0", "delete web 0"];
    assert!(reported.chunks(4).all(|chunk| chunk == expected), "{reported:?}");
    shim.shut_down();
    assert_eq!(daemon.event_lines().len(), 80);
    assert_eq!(daemon.accepted(), 1);
}

/// Check that events that happen while containerd is away are delivered in order after it is back,
/// and not before two seconds have passed, because its clients must reconnect first.
#[test]
fn events_wait_for_containerd_and_for_its_clients() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.run_exec("web", "probe").kill();
    shim.wait("web", "probe").unwrap();
    shim.delete("web", "probe").unwrap();
    init.kill();
    shim.wait("web", "").unwrap();
    shim.delete("web", "").unwrap();
    let daemon = node.daemon();
    let connected =
        deadline::find("a connection", || (daemon.accepted() > 0).then(std::time::Instant::now));
    let reported = daemon.wait_for_count(7);
    assert_eq!(
        reported,
        [
            "create web",
            "start web",
            "exec-added web probe",
            "exec-started web probe",
            "exit web probe 137",
            "exit web web 137",
            "delete web 137"
        ]
    );
    let waited = daemon.events()[0].at - connected;
    assert!(waited > Duration::from_millis(1900), "the replay began after {waited:?}");
}

/// Check that a restart of containerd in between loses no event and keeps the order.
#[test]
fn a_restart_of_containerd_loses_nothing() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 0");
    for round in 0..4 {
        if round == 1 {
            daemon.stop_listening();
        }
        if round == 3 {
            daemon.listen_again();
        }
        shim.run(&bundle);
        shim.wait("web", "").unwrap();
        shim.delete("web", "").unwrap();
    }
    // An event may come twice if its acknowledgement was lost.
    let mut reported = daemon.wait_until("sixteen events", deadline::PATIENCE, |events| {
        let mut reported: Vec<_> = events.iter().map(|event| event.line.clone()).collect();
        reported.dedup();
        (reported.len() >= 16).then_some(reported)
    });
    reported.dedup();
    let expected = ["create web", "start web", "exit web web 0", "delete web 0"];
    assert!(reported.chunks(4).all(|chunk| chunk == expected), "{reported:?}");
}

/// Check that an event is sent again with the same content if its acknowledgement was lost.
#[test]
fn a_lost_acknowledgement_brings_a_second_copy() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    daemon.set_behaviour(Behaviour::HangUp);
    shim.create(&bundle.create()).unwrap();
    daemon.wait_for_count(1);
    daemon.set_behaviour(Behaviour::Acknowledge);
    shim.start("web", "").unwrap();
    daemon.wait_for("start web");
    let events = daemon.events();
    let lines: Vec<_> = events.iter().map(|event| event.line.as_str()).collect();
    assert_eq!(lines, ["create web", "create web", "start web"]);
    assert_eq!(events[0].envelope, events[1].envelope);
}

/// Check that an event that containerd never accepts does not hold up the next.
#[test]
fn an_event_that_is_refused_does_not_hold_up_the_next() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    daemon.set_behaviour(Behaviour::Refuse(Code::INVALID_ARGUMENT));
    shim.create(&bundle.create()).unwrap();
    daemon.wait_for_count(1);
    daemon.set_behaviour(Behaviour::Acknowledge);
    shim.start("web", "").unwrap();
    assert_eq!(daemon.wait_for_count(2), ["create web", "start web"]);
}

/// Check that an event is sent again if containerd cannot take it now: containerd may be starting.
#[test]
fn an_event_that_containerd_cannot_take_now_is_sent_again() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    daemon.set_behaviour(Behaviour::Refuse(Code::UNAVAILABLE));
    shim.create(&bundle.create()).unwrap();
    daemon.wait_for_count(1);
    daemon.set_behaviour(Behaviour::Acknowledge);
    assert_eq!(daemon.wait_for_count(2), ["create web", "create web"]);
}

/// Check that no request waits for a containerd that does not read (ttrpc 1b4f6f8).
#[test]
fn a_containerd_that_does_not_read_blocks_no_request() {
    for behaviour in [Behaviour::Stall, Behaviour::Swallow] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let daemon = node.daemon();
        let shim = node.shim(&bundle);
        daemon.set_behaviour(behaviour);
        node.runtime().payload("web", "exit 0");
        let quick = shim.with_deadline(Duration::from_secs(3));
        for _ in 0..10 {
            quick.create(&bundle.create()).unwrap();
            quick.start("web", "").unwrap();
            quick.wait("web", "").unwrap();
            quick.delete("web", "").unwrap();
        }
        assert_eq!(daemon.events().len(), usize::from(behaviour == Behaviour::Swallow));
    }
}

/// Check that undelivered events are in the outbox of the bundle, which is emptied when all are
/// delivered.
#[test]
fn undelivered_events_wait_in_the_outbox() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    daemon.stop_listening();
    let shim = node.shim(&bundle);
    shim.create(&bundle.create()).unwrap();
    let length = || fs::metadata(bundle.path.join("events.journal")).unwrap().len();
    // It is written by another thread, so that a disk that hangs delays nothing.
    deadline::until("an event in the outbox", || length() > 0);
    let one = length();
    assert!(one < 1024, "{one}");
    shim.start("web", "").unwrap();
    deadline::until("another one", || length() > one);
    daemon.listen_again();
    daemon.wait_for("start web");
    deadline::until("an empty outbox", || length() == 0);
}

/// Check that a shim that cannot create its outbox still publishes its events.
#[test]
fn a_shim_without_an_outbox_still_publishes() {
    let node = Node::new();
    let bundle = node.bundle("web");
    std::os::unix::fs::symlink("/etc/passwd", bundle.path.join("events.journal")).unwrap();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.remove("web");
    let daemon = node.daemon();
    assert_eq!(daemon.wait_for_count(4)[3], "delete web 137");
}
