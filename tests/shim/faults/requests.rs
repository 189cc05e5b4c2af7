//! Requests of which the client, the runtime or containerd does not do its part.

use std::{
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{api::Status, ttrpc::proto::Code};

use crate::harness::{Behaviour, Node, Shim, deadline};

/// Signals that end no process, as a terminal and its user send them.
const HARMLESS: [u32; 5] = [1, 10, 12, 28, 34];

/// Runs the container of `bundle` until it was killed.
fn killed(node: &Node, id: &str) -> Shim {
    let bundle = node.bundle(id);
    let shim = node.shim(&bundle);
    shim.run(&bundle).kill();
    shim.wait(id, "").unwrap();
    shim
}

/// Check that a delete of which the client went away can be found out and repeated: the task is
/// shown as stopped, and the delete has the same answer until the id is used again.
#[test]
fn a_delete_without_its_client_is_answered_again() {
    for silently in [false, true] {
        let node = Node::new();
        let daemon = node.daemon();
        let shim = killed(&node, "web");
        let exit = shim.wait("web", "").unwrap();
        let hold = node.runtime().hold("delete");
        let gone = match silently {
            // containerd's client has given up, and containerd does not say so to the shim.
            true => Some(shim.in_background(|task| task.delete("web", ""))),
            false => {
                let impatient = shim.reconnect().with_deadline(Duration::from_millis(500));
                assert!(impatient.delete("web", "").unwrap_err().is_late());
                None
            }
        };
        hold.wait_until_reached();
        thread::sleep(Duration::from_millis(2200));
        hold.release();
        daemon.wait_for("delete web 137");
        drop(gone.map(thread::JoinHandle::join));
        let state = shim.state("web", "").unwrap();
        assert_eq!(state.status.enum_value(), Ok(Status::STOPPED));
        assert_eq!((state.exit_status, &state.exited_at), (137, &exit.exited_at));
        for _ in 0..3 {
            let again = shim.delete("web", "").unwrap();
            assert_eq!((again.exit_status, &again.exited_at), (137, &exit.exited_at));
            assert_eq!(again.pid, state.pid);
        }
        // Now the client knows.
        assert_eq!(shim.state("web", "").unwrap_err().code, Some(Code::NOT_FOUND));
        assert_eq!(node.runtime().calls("delete").len(), 1);
        assert_eq!(daemon.event_lines().len(), 4);
        shim.shut_down();
        node.wait_until_empty();
    }
}

/// Check that the id of a remembered delete can be used again, and that the new container has
/// its own answers.
#[test]
fn a_remembered_delete_does_not_answer_for_a_new_container() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 3");
    shim.run(&bundle);
    shim.wait("web", "").unwrap();
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 3);
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 3);
    node.runtime().payload("web", "exec sleep 600");
    shim.run(&bundle);
    assert_eq!(shim.delete("web", "").unwrap_err().message, "cannot delete a running process");
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    assert_eq!(shim.delete("other", "").unwrap_err().code, Some(Code::NOT_FOUND));
    assert_eq!(shim.delete("web", "probe").unwrap_err().code, Some(Code::NOT_FOUND));
}

/// Check that a delete with a runtime that hangs ends before its caller gives up, with an error
/// that names the runtime, and that a later delete succeeds.
#[test]
fn a_delete_that_hangs_names_what_hangs() {
    let node = Node::new();
    let daemon = node.daemon();
    let shim = killed(&node, "web");
    let hold = node.runtime().hold("delete");
    let failure = shim.with_deadline(Duration::from_secs(10)).delete("web", "").unwrap_err();
    let runtime = node.runtime().path().display().to_string();
    assert_eq!(
        failure.message,
        format!("failed to delete task: {runtime} delete did not end within 5 s and was killed")
    );
    deadline::until("no child", || shim.process.children().is_empty());
    assert_eq!(shim.state("web", "").unwrap().exit_status, 137);
    hold.release();
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    shim.shut_down();
    assert_eq!(
        daemon.event_lines(),
        ["create web", "start web", "exit web web 137", "delete web 137"]
    );
}

/// Check that only a signal that ends a process aborts a create, and that others are refused as
/// long as there is no process.
#[test]
fn a_harmless_signal_does_not_abort_a_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let hold = node.runtime().hold("create");
    let request = bundle.create();
    let create = shim.in_background(move |task| task.create(&request));
    hold.wait_until_reached();
    for signal in HARMLESS {
        assert_eq!(shim.kill("web", "", signal).unwrap_err().code, Some(Code::NOT_FOUND));
    }
    hold.release();
    create.join().unwrap().unwrap();
    shim.start("web", "").unwrap();

    let hold = node.runtime().hold("exec");
    shim.exec("web", "probe").unwrap();
    let start = shim.in_background(|task| task.start("web", "probe"));
    hold.wait_until_reached();
    for signal in HARMLESS {
        let refused = shim.kill("web", "probe", signal).unwrap_err();
        assert_eq!(refused.code, Some(Code::FAILED_PRECONDITION));
    }
    hold.release();
    start.join().unwrap().unwrap();
    shim.remove("web");
    for signal in [2, 3, 9, 15] {
        let hold = node.runtime().hold("create");
        let request = bundle.create();
        let create = shim.in_background(move |task| task.create(&request));
        hold.wait_until_reached();
        shim.kill("web", "", signal).unwrap();
        create.join().unwrap().unwrap_err();
        hold.release();
    }
}

/// Check that the first event after a restart of containerd waits only for clients that may still
/// have to subscribe: not if containerd has been back for two seconds, and neither does the shim
/// then stay longer.
#[test]
fn an_event_long_after_a_restart_is_not_delayed() {
    let node = Node::new();
    let daemon = node.daemon();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    daemon.wait_for("start web");
    daemon.stop_listening();
    daemon.listen_again();
    thread::sleep(Duration::from_millis(2500));
    let begun = Instant::now();
    init.kill();
    daemon.wait_for("exit web web 137");
    shim.delete("web", "").unwrap();
    shim.shut_down();
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert!(daemon.event_lines().ends_with(&["delete web 137".into()]));
}

/// Check that an event right after a restart of containerd still waits for its clients.
#[test]
fn an_event_right_after_a_restart_waits_for_subscribers() {
    let node = Node::new();
    let daemon = node.daemon();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    daemon.wait_for("start web");
    daemon.stop_listening();
    daemon.listen_again();
    let begun = Instant::now();
    init.kill();
    daemon.wait_for("exit web web 137");
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    shim.delete("web", "").unwrap();
}

/// Check that a containerd that accepts connections and no events is not asked without a pause.
#[test]
fn a_containerd_that_refuses_events_is_not_flooded() {
    let node = Node::new();
    let daemon = node.daemon();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    daemon.wait_for("start web");
    thread::sleep(Duration::from_millis(2200));
    for behaviour in [Behaviour::HangUp, Behaviour::Refuse(Code::UNAVAILABLE)] {
        let before = daemon.event_lines().len();
        daemon.set_behaviour(behaviour);
        shim.exec("web", &format!("probe{before}")).unwrap();
        thread::sleep(Duration::from_secs(2));
        daemon.set_behaviour(Behaviour::Acknowledge);
        let received = daemon.event_lines().len() - before;
        assert!((2..20).contains(&received), "{behaviour:?}: {received}");
    }
    shim.remove("web");
    daemon.wait_for("delete web 137");
}

/// Check that what a runtime says reaches a client bounded and without characters that act on its
/// terminal or forge lines of its log, with the beginning and the end of a long text.
#[test]
fn a_message_of_the_runtime_is_bounded_and_escaped() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let long = r#"long=$(head -c 900000 /dev/zero | tr '\0' x)
        printf '{"level":"error","msg":"begin \\u001b[2J\\u202e\\n%s end"}\n' "$long" >>"$log"
        exit 1"#;
    let printed = r"printf 'begin \033[2J\nout\377'; exit 1";
    let is_safe = |message: &str| {
        assert!(message.contains("begin"), "{message:.200}");
        assert!(message.contains(r"\x1b[2J"), "{message:.200}");
        let acts = |character: char| character.is_control() || character == '\u{202e}';
        assert!(!message.contains(acts), "{message:.200}");
        assert!(message.len() < 6000, "{}", message.len());
    };
    node.runtime().before("create", long);
    let message = shim.create(&bundle.create()).unwrap_err().message;
    is_safe(&message);
    assert!(message.ends_with("x end"), "{}", &message[message.len() - 20..]);
    node.runtime().reset("create");
    shim.run(&bundle);
    for (verb, call) in [
        ("kill", (|shim| shim.kill("web", "", 10).map(drop)) as fn(&Shim) -> Result<(), _>),
        ("pause", |shim| shim.pause("web").map(drop)),
        ("update", |shim| shim.update("web", "{}").map(drop)),
        ("checkpoint", |shim| shim.checkpoint("web", "/tmp/nowhere".as_ref(), None).map(drop)),
    ] {
        for script in [long, printed] {
            node.runtime().before(verb, script);
            is_safe(&call(&shim).unwrap_err().message);
        }
        node.runtime().reset(verb);
    }
    shim.remove("web");
}
