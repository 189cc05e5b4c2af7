//! The states and requests of an exec, from Exec to Delete.

use containerd_shim_protos::{api::Status, ttrpc::proto::Code};

use super::lifecycle::refuses;
use crate::harness::{Node, any, deadline, exec_request};

/// Check that an exec goes through its states from added to deleted, and that each step is
/// reported.
#[test]
fn an_exec_is_added_started_and_deleted() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("probe", "exit 5");
    shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    let state = shim.state("web", "probe").unwrap();
    assert_eq!(
        (state.id.as_str(), state.pid, state.status.enum_value()),
        ("probe", 0, Ok(Status::CREATED))
    );
    let pid = shim.start("web", "probe").unwrap().pid;
    let exit = shim.wait("web", "probe").unwrap();
    assert_eq!(exit.exit_status, 5);
    let state = shim.state("web", "probe").unwrap();
    assert_eq!(
        (state.pid, state.status.enum_value(), state.exit_status),
        (pid, Ok(Status::STOPPED), 5)
    );
    let deleted = shim.delete("web", "probe").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status, deleted.exited_at), (pid, 5, exit.exited_at));
    refuses(shim.state("web", "probe"), Code::NOT_FOUND, "process does not exist probe: not found");
    let reported = daemon.wait_for_count(5);
    assert_eq!(
        reported[2..],
        ["exec-added web probe", "exec-started web probe", "exit web probe 5"]
    );
}

/// Check that the runtime receives the process document unchanged except for `terminal`, and that
/// both files of an exec are removed afterwards.
#[test]
fn the_runtime_gets_the_process_as_it_came() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("exec", "cp \"$process\" \"$home/process\"");
    shim.run(&bundle);
    let spec = r#"{"args":["true"],"capabilities":{"bounding":["CAP_NEW_AND_UNKNOWN"]},"cwd":"/","terminal":true}"#;
    let mut request = exec_request("web", "probe");
    request.spec =
        Some(any("types.containerd.io/opencontainers/runtime-spec/1/Process", spec)).into();
    shim.exec_with(&request).unwrap();
    shim.start("web", "probe").unwrap();
    let process: serde_json::Value =
        serde_json::from_slice(&std::fs::read(node.runtime().file("process")).unwrap()).unwrap();
    let mut expected: serde_json::Value = serde_json::from_str(spec).unwrap();
    // The request decides about the terminal, not the document.
    expected["terminal"] = false.into();
    assert_eq!(process, expected);
    let call = &node.runtime().calls("exec")[0];
    assert!(call.has("--detach"));
    for flag in ["--process", "--pid-file"] {
        let file = call.value(flag).unwrap();
        assert!(file.starts_with(&*bundle.path.to_string_lossy()));
        assert!(!std::path::Path::new(file).exists(), "{file} is left");
    }
}

/// Check that a second exec with the same id is refused until the first is deleted.
#[test]
fn a_second_exec_under_one_id_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    refuses(shim.exec("web", "probe"), Code::ALREADY_EXISTS, "id probe: already exists");
    assert_eq!(shim.delete("web", "probe").unwrap().pid, 0);
    shim.exec("web", "probe").unwrap();
}

/// Check that a request that the state of an exec does not allow gets the error text that clients
/// know.
#[test]
fn requests_that_an_execs_state_forbids_are_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let missing = "process does not exist probe: not found";
    refuses(shim.start("web", "probe"), Code::NOT_FOUND, missing);
    refuses(shim.kill("web", "probe", 9), Code::NOT_FOUND, missing);
    refuses(shim.wait("web", "probe"), Code::NOT_FOUND, missing);
    refuses(shim.delete("web", "probe"), Code::NOT_FOUND, missing);
    shim.exec("web", "probe").unwrap();
    refuses(
        shim.kill("web", "probe", 9),
        Code::FAILED_PRECONDITION,
        "process not created: failed precondition",
    );
    shim.start("web", "probe").unwrap();
    refuses(shim.start("web", "probe"), Code::UNKNOWN, "cannot start a running process");
    refuses(shim.delete("web", "probe"), Code::UNKNOWN, "cannot delete a running process");
    shim.kill("web", "probe", 9).unwrap();
    assert_eq!(shim.wait("web", "probe").unwrap().exit_status, 137);
    refuses(shim.start("web", "probe"), Code::UNKNOWN, "cannot start a stopped process");
    refuses(shim.kill("web", "probe", 9), Code::NOT_FOUND, "process already finished: not found");
}

/// Check that the shim itself kills an exec, with any signal number and without the runtime.
#[test]
fn an_exec_gets_real_time_signals_too() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.run_exec("web", "probe");
    shim.kill("web", "probe", 35).unwrap();
    assert_eq!(shim.wait("web", "probe").unwrap().exit_status, 128 + 35);
    assert_eq!(node.runtime().calls("kill"), []);
    shim.run_exec("web", "other");
    assert!(shim.kill("web", "other", 200).is_err());
}

/// Check that an invalid process document is refused when the exec is added.
#[test]
fn an_invalid_process_document_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    for spec in ["", "[]", "{\"args\":", "null"] {
        let mut request = exec_request("web", "probe");
        request.spec =
            Some(any("types.containerd.io/opencontainers/runtime-spec/1/Process", spec)).into();
        assert_eq!(
            shim.exec_with(&request).unwrap_err().code,
            Some(Code::INVALID_ARGUMENT),
            "{spec}"
        );
    }
}

/// Check that when the runtime refuses an exec, its starter and its waiters get an error, no start
/// or exit of it is reported, and it can be deleted.
#[test]
fn waiters_are_answered_when_an_exec_fails_to_start() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    node.runtime().before("exec", "fail 'exec: /nope: not found'");
    shim.exec("web", "probe").unwrap();
    let hold = node.runtime().hold("exec");
    let waiter = shim.in_background(|task| task.wait("web", "probe"));
    let start = shim.in_background(|task| task.start("web", "probe"));
    hold.wait_until_reached();
    hold.release();
    refuses(
        start.join().unwrap(),
        Code::UNKNOWN,
        "OCI runtime exec failed: exec: /nope: not found",
    );
    assert_eq!(waiter.join().unwrap().unwrap().exit_status, 255);
    assert_eq!(shim.delete("web", "probe").unwrap().pid, 0);
    shim.remove("web");
    daemon.wait_for("delete web 137");
    assert_eq!(
        daemon.event_lines(),
        ["create web", "start web", "exec-added web probe", "exit web web 137", "delete web 137"]
    );
}

/// Check that execs can be added and started in a created container.
#[test]
fn a_created_container_takes_execs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.create(&bundle.create()).unwrap();
    assert!(shim.run_exec("web", "probe").lives());
}

/// Check that an exec can be killed while it is starting, and leaves no process.
#[test]
fn an_exec_that_is_starting_can_be_killed() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    let hold = node.runtime().hold("exec");
    let start = shim.in_background(|task| task.start("web", "probe"));
    let runtime = hold.wait_until_reached().process();
    shim.kill("web", "probe", 9).unwrap();
    let failure = start.join().unwrap().unwrap_err();
    assert!(failure.message.starts_with("OCI runtime exec failed"), "{failure:?}");
    deadline::until("the end of the runtime", || !runtime.lives());
}

/// Check that the exit of init is published after the exit of every exec, in whichever order they
/// end.
#[test]
fn init_exit_is_published_after_every_exec() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 0");
    shim.create(&bundle.create()).unwrap();
    let execs = ["a", "b", "c"].map(|exec_id| shim.run_exec("web", exec_id));
    let init = shim.start("web", "").unwrap().pid;
    deadline::until("the end of init", || !crate::harness::Process::new(init).lives());
    // In a real pid namespace, the end of init would end them now.
    for exec in execs {
        exec.kill();
    }
    shim.wait("web", "").unwrap();
    daemon.wait_for("exit web web 0");
    let exits: Vec<_> =
        daemon.event_lines().into_iter().filter(|line| line.starts_with("exit")).collect();
    assert_eq!(exits.len(), 4, "{exits:?}");
    assert_eq!(exits[3], "exit web web 0");
}
