//! Requests of a container from Create to Delete: error codes, error texts and answers of each request.

use containerd_shim_protos::{
    api::Status, protobuf::Message as _, shim::oci::ProcessDetails, ttrpc::proto::Code,
};

use crate::harness::{Failure, Node, deadline, exec_request};

/// January 1 of year 1, in seconds: the time for which Go's `IsZero` is true.
const GO_ZERO_TIME: i64 = -62_135_596_800;

#[track_caller]
pub(super) fn refuses<T: std::fmt::Debug>(answer: Result<T, Failure>, code: Code, message: &str) {
    let failure = answer.expect_err(message);
    assert_eq!((failure.code, failure.message.as_str()), (Some(code), message));
}

/// Check that a container goes through its states, and that State reports each with the right
/// fields.
#[test]
fn state_follows_the_life_of_a_container() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime()
        .payload("web", "trap 'exit 3' TERM; echo >\"$HOME/ready\"; while :; do sleep 0.01; done");
    node.runtime().before("create", "export HOME=\"$home\"");

    let pid = shim.create(&bundle.create()).unwrap().pid;
    let state = shim.state("web", "").unwrap();
    assert_eq!(
        (state.id.as_str(), state.pid, state.status.enum_value()),
        ("web", pid, Ok(Status::CREATED))
    );
    assert_eq!(state.bundle, bundle.path.to_string_lossy());
    assert_eq!((state.exit_status, state.exited_at.seconds), (0, GO_ZERO_TIME));

    assert_eq!(shim.start("web", "").unwrap().pid, pid);
    assert_eq!(shim.state("web", "").unwrap().status.enum_value(), Ok(Status::RUNNING));
    shim.pause("web").unwrap();
    assert_eq!(shim.state("web", "").unwrap().status.enum_value(), Ok(Status::PAUSED));
    shim.resume("web").unwrap();
    assert_eq!(shim.state("web", "").unwrap().status.enum_value(), Ok(Status::RUNNING));

    deadline::until("the trap", || node.runtime().file("ready").exists());
    shim.kill("web", "", 15).unwrap();
    let exit = shim.wait("web", "").unwrap();
    assert_eq!(exit.exit_status, 3);
    let state = shim.state("web", "").unwrap();
    assert_eq!(
        (state.pid, state.status.enum_value(), state.exit_status),
        (pid, Ok(Status::STOPPED), 3)
    );
    assert_eq!(state.exited_at, exit.exited_at);

    let deleted = shim.delete("web", "").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status, &deleted.exited_at), (pid, 3, &exit.exited_at));
    refuses(shim.state("web", ""), Code::NOT_FOUND, "container not created: not found");
}

/// Check that every request for an unknown container fails with "not found", except Connect, which
/// answers.
#[test]
fn requests_about_an_unknown_container_are_not_found() {
    let node = Node::new();
    let shim = node.shim(&node.bundle("web"));
    let missing = "container not created: not found";
    refuses(shim.state("no", ""), Code::NOT_FOUND, missing);
    refuses(shim.start("no", ""), Code::NOT_FOUND, missing);
    refuses(shim.delete("no", ""), Code::NOT_FOUND, missing);
    refuses(shim.pids("no"), Code::NOT_FOUND, missing);
    refuses(shim.pause("no"), Code::NOT_FOUND, missing);
    refuses(shim.resume("no"), Code::NOT_FOUND, missing);
    refuses(shim.checkpoint("no", &node.path().join("image"), None), Code::NOT_FOUND, missing);
    refuses(shim.kill("no", "", 9), Code::NOT_FOUND, missing);
    refuses(shim.exec("no", "probe"), Code::NOT_FOUND, missing);
    refuses(shim.resize_pty("no", "", 80, 24), Code::NOT_FOUND, missing);
    refuses(shim.close_io("no", ""), Code::NOT_FOUND, missing);
    refuses(shim.update("no", "{}"), Code::NOT_FOUND, missing);
    refuses(shim.wait("no", ""), Code::NOT_FOUND, missing);
    refuses(shim.stats("no"), Code::NOT_FOUND, missing);
    let connected = shim.connection("no").unwrap();
    assert_eq!((connected.shim_pid, connected.task_pid), (shim.process.pid.unsigned_abs(), 0));
}

/// Check that a request that a state does not allow is refused with the stock shim's error text.
#[test]
fn requests_that_a_state_forbids_get_the_stock_shims_errors() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let cannot = |answer: Result<(), Failure>, what: &str| {
        refuses(answer, Code::UNKNOWN, &format!("cannot {what}"))
    };
    shim.create(&bundle.create()).unwrap();
    cannot(shim.pause("web").map(drop), "pause task in created state");
    cannot(shim.resume("web").map(drop), "resume task in created state");
    cannot(
        shim.checkpoint("web", &node.path().join("image"), None).map(drop),
        "checkpoint a task in created state",
    );
    shim.start("web", "").unwrap();
    cannot(shim.start("web", "").map(drop), "start a running process");
    cannot(shim.resume("web").map(drop), "resume a running process");
    cannot(shim.delete("web", "").map(drop), "delete a running process");
    shim.pause("web").unwrap();
    cannot(shim.pause("web").map(drop), "pause a paused container");
    cannot(shim.start("web", "").map(drop), "start a paused process");
    cannot(shim.delete("web", "").map(drop), "delete a paused process");
    cannot(shim.exec("web", "probe").map(drop), "exec in a paused state");
    shim.resume("web").unwrap();
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    cannot(shim.start("web", "").map(drop), "start a stopped process");
    cannot(shim.pause("web").map(drop), "pause a stopped container");
    cannot(shim.resume("web").map(drop), "resume a stopped container");
    cannot(shim.update("web", "{}").map(drop), "update a stopped container");
    cannot(
        shim.checkpoint("web", &node.path().join("image"), None).map(drop),
        "checkpoint a stopped container",
    );
    cannot(shim.exec("web", "probe").map(drop), "exec in a stopped state");
    refuses(shim.kill("web", "", 9), Code::NOT_FOUND, "process already finished: not found");
}

/// Check that a second create with the same id is refused and does not harm the first container.
#[test]
fn a_second_create_under_one_id_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    refuses(shim.create(&bundle.create()), Code::ALREADY_EXISTS, "container web: already exists");
    assert_eq!(node.runtime().calls("create").len(), 1);
    assert!(init.lives());
    shim.remove("web");
    // After the delete, the id can be used again.
    shim.run(&bundle);
    shim.remove("web");
}

/// Check that ids that look like flags or paths are refused, and bundle paths that are not
/// absolute.
#[test]
fn ids_that_would_be_paths_or_flags_are_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let long = "x".repeat(256);
    for id in ["", ".", "..", "../web", "a/b", "-rf", "a b", "a\nb", "ünï", &long] {
        let request =
            containerd_shim_protos::api::CreateTaskRequest { id: id.to_owned(), ..bundle.create() };
        let failure = shim.create(&request).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{id:?}");
        assert!(!failure.message.contains('\n'), "{failure:?}");
    }
    let mut request = bundle.create();
    request.bundle = "b/web".into();
    assert_eq!(shim.create(&request).unwrap_err().code, Some(Code::INVALID_ARGUMENT));
    shim.create(&bundle.create()).unwrap();
    for exec_id in ["", "..", "../probe", "a/b", "--detach"] {
        let failure = shim.exec_with(&exec_request("web", exec_id)).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{exec_id:?}");
    }
    assert_eq!(node.runtime().calls("create").len(), 1);
}

/// Check that the error of a refused create quotes the runtime, and that nothing is left.
#[test]
fn a_refused_create_quotes_the_runtimes_error() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    node.runtime().before("create", "fail 'exec: /nope: no such file'");
    let failure = shim.create(&bundle.create()).unwrap_err();
    assert_eq!(failure.message, "OCI runtime create failed: exec: /nope: no such file");
    refuses(shim.state("web", ""), Code::NOT_FOUND, "container not created: not found");
    assert!(!node.runtime_root().join("test/web").exists());
    // A second create succeeds, and no event was published about the first.
    node.runtime().reset("create");
    shim.run(&bundle);
    daemon.wait_for("start web");
    assert_eq!(daemon.event_lines(), ["create web", "start web"]);
}

/// Check that a created container can be killed and deleted without being started.
#[test]
fn a_created_container_can_be_killed() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.create(&bundle.create()).unwrap();
    shim.kill("web", "", 9).unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    shim.delete("web", "").unwrap();
    daemon.wait_for("delete web 137");
    assert_eq!(daemon.event_lines(), ["create web", "exit web web 137", "delete web 137"]);
}

/// Check that the delete of a created container ends its init, and reports the exit before the
/// delete.
#[test]
fn a_created_container_can_be_deleted() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    let pid = shim.create(&bundle.create()).unwrap().pid;
    let waiter = shim.in_background(|task| task.wait("web", ""));
    let deleted = shim.delete("web", "").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
    assert_eq!(waiter.join().unwrap().unwrap().exit_status, 137);
    daemon.wait_for("delete web 137");
    assert_eq!(daemon.event_lines(), ["create web", "exit web web 137", "delete web 137"]);
    node.runtime().wait_for_calls("delete", 1);
    shim.shut_down();
    node.wait_until_empty();
}

/// Check that a container that the runtime cannot start can still be deleted.
#[test]
fn a_container_that_does_not_start_can_be_deleted() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("start", "fail 'no room'");
    shim.create(&bundle.create()).unwrap();
    refuses(shim.start("web", ""), Code::UNKNOWN, "OCI runtime start failed: no room");
    assert_eq!(shim.state("web", "").unwrap().status.enum_value(), Ok(Status::CREATED));
    shim.delete("web", "").unwrap();
    refuses(shim.state("web", ""), Code::NOT_FOUND, "container not created: not found");
}

/// Check that limits reach the runtime unchanged, and that the error for an invalid document names
/// it.
#[test]
fn limits_reach_the_runtime_unchanged() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let resources = r#"{"memory":{"limit":1048576},"unknown":"kept"}"#;
    shim.update("web", resources).unwrap();
    assert_eq!(std::fs::read_to_string(node.runtime().file("resources")).unwrap(), resources);
    assert_eq!(
        node.runtime().calls("update")[0].after_globals(),
        ["update", "--resources", "-", "web"]
    );
    for garbage in ["", "[]", "7", "{\"memory\":"] {
        let failure = shim.update("web", garbage).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{garbage}");
        assert!(failure.message.starts_with("invalid resources"), "{failure:?}");
    }
    assert_eq!(node.runtime().calls("update").len(), 1);
}

/// Check that requests about streams succeed without effect for a container without streams.
#[test]
fn missing_streams_can_be_closed_and_resized() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.resize_pty("web", "", 80, 24).unwrap();
    shim.resize_pty("web", "", u32::MAX, u32::MAX).unwrap();
    shim.close_io("web", "").unwrap();
    shim.close_io("web", "").unwrap();
    refuses(
        shim.resize_pty("web", "no", 80, 24),
        Code::NOT_FOUND,
        "process does not exist no: not found",
    );
    refuses(shim.close_io("web", "no"), Code::NOT_FOUND, "process does not exist no: not found");
}

/// Check that Pids reports init and execs, and execs with the type that `ctr task ps` can print.
#[test]
fn pids_reports_which_process_is_which_exec() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let exec = shim.run_exec("web", "probe");
    // The scripted container has no cgroup of its own, so other processes of this test may be in
    // the list.
    let processes = shim.pids("web").unwrap().processes;
    let of = |pid: i32| processes.iter().find(|process| process.pid == pid.unsigned_abs());
    assert!(of(init.pid).unwrap().info.is_none());
    let info = of(exec.pid).unwrap().info.clone().unwrap();
    assert_eq!(info.type_url, "containerd.runc.v1.ProcessDetails");
    assert_eq!(ProcessDetails::parse_from_bytes(&info.value).unwrap().exec_id, "probe");
}

/// Check that the service is served under the names of 1.x and 2.x, and under no other.
#[test]
fn both_names_of_the_service_are_served() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let answers = ["containerd.task.v2.Task", "containerd.task.v3.Task"]
        .map(|name| shim.with_service(name).state("web", ""));
    assert_eq!(answers[0].as_ref().unwrap(), answers[1].as_ref().unwrap());
    let unknown = shim.with_service("containerd.task.v4.Task").state("web", "").unwrap_err();
    assert!(
        matches!(
            unknown.code,
            Some(Code::UNIMPLEMENTED | Code::NOT_FOUND | Code::INVALID_ARGUMENT)
        ),
        "{unknown:?}"
    );
}

/// Check that Connect reports the shim's pid and init's pid.
#[test]
fn connect_reports_both_pids() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let connected = shim.connection("web").unwrap();
    assert_eq!(
        (connected.shim_pid, connected.task_pid),
        (shim.process.pid.unsigned_abs(), init.pid.unsigned_abs())
    );
}
