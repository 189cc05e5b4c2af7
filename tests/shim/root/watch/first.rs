//! Origins of processes: init, exec, descendant, injected; stages of the runtime are never
//! reported.

use std::process::Command;

use super::kill_and_remove;
use crate::harness::{
    containerd::{Containerd, Program, Runtime, Version},
    deadline,
};

/// Check that under each runtime the first reported process is the user's, that an exec's processes
/// have its id, and that no stage of the runtime is reported.
fn only_the_users_processes(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sh", "-c", "/bin/true; sleep 1000"]);
    let init = subscriber.wait(deadline::PATIENCE, "the first process", |event| {
        event.kind().starts_with("process.")
    });
    assert_eq!((init.kind(), init.text("/origin")), ("process.start", "init"), "{init:?}");
    assert_eq!(init.args(), ["sh", "-c", "/bin/true; sleep 1000"]);
    assert_eq!(init.number("/process/pid"), Some(containerd.pid("c").unsigned_abs().into()));
    let child = subscriber.wait_run(&["/bin/true"]);
    assert_eq!(child.text("/origin"), "descendant", "{child:?}");
    let exec = ["task", "exec", "--exec-id", "probe-1", "c", "sh", "-c", "/bin/echo hello; true"];
    containerd.ctr(&exec).success();
    let shell = subscriber.wait_run(&["sh", "-c", "/bin/echo hello; true"]);
    assert_eq!((shell.kind(), shell.text("/origin")), ("process.start", "exec"), "{shell:?}");
    assert_eq!(shell.text("/containerd/exec_id"), "probe-1", "{shell:?}");
    let echo = subscriber.wait_run(&["/bin/echo", "hello"]);
    assert_eq!(
        (echo.text("/origin"), echo.text("/containerd/exec_id")),
        ("descendant", "probe-1"),
        "{echo:?}"
    );
    subscriber.wait_of("process.done", &shell);
    kill_and_remove(&containerd, &subscriber, "c");
    for event in subscriber.all() {
        let description = format!("{} {:?}", event.text("/process/executable/path"), event.args());
        assert!(
            !description.contains("runc") && !description.contains("crun"),
            "a stage of the runtime: {event:?}"
        );
        assert_ne!(event.text("/origin"), "injected", "{event:?}");
    }
    drop(subscriber);
    containerd.assert_nothing_left();
}

#[test]
fn only_the_users_processes_are_reported_under_runc_1_1() {
    only_the_users_processes(Version::V1_6, Runtime::Runc1_1);
}

#[test]
fn only_the_users_processes_are_reported_under_runc_1_3() {
    only_the_users_processes(Version::V1_7, Runtime::Runc1_3);
}

#[test]
fn only_the_users_processes_are_reported_under_crun() {
    only_the_users_processes(Version::V2_1, Runtime::Crun1_21);
}

/// Check that a process that entered the container's namespaces from outside is reported as
/// injected.
#[test]
fn a_process_from_outside_is_reported_as_injected() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let pid = containerd.pid("c").to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid, "--mount", "--pid", "/bin/sleep", "0.01"]);
    Program::new(nsenter).run().success();
    let intruder = subscriber.wait_run(&["/bin/sleep", "0.01"]);
    assert_eq!(intruder.text("/origin"), "injected", "{intruder:?}");
    subscriber.wait_of("process.exit", &intruder);
    // This process has the host's mount namespace.
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid, "--pid", "/bin/sleep", "0.02"]);
    Program::new(nsenter).run().success();
    let intruder = subscriber.wait_run(&["/bin/sleep", "0.02"]);
    assert_eq!(intruder.text("/origin"), "injected", "{intruder:?}");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that on a node that is itself a container (its daemon in a pid namespace), pids are
/// reported as that node numbers them, and everything else as usual.
#[test]
fn pids_are_reported_as_the_node_numbers_them() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.kill_9();
    containerd.restart_in_a_pid_namespace();
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sh", "-c", "/bin/true; sleep 1000"]);
    let init = subscriber.wait_run(&["sh", "-c", "/bin/true; sleep 1000"]);
    assert_eq!(
        init.number("/process/pid"),
        Some(containerd.pid("c").unsigned_abs().into()),
        "{init:?}"
    );
    assert_eq!(init.text("/origin"), "init", "{init:?}");
    let child = subscriber.wait_run(&["/bin/true"]);
    assert_eq!(child.at("/process/parent_pid"), init.at("/process/pid"), "{child:?}");
    assert_eq!(child.text("/origin"), "descendant", "{child:?}");
    subscriber.wait_of("process.done", &child);
    containerd
        .ctr(&["task", "exec", "--exec-id", "probe-1", "c", "sh", "-c", "exit 3"])
        .exit_code(3);
    let exec = subscriber.wait_run(&["sh", "-c", "exit 3"]);
    assert_eq!(
        (exec.text("/origin"), exec.text("/containerd/exec_id")),
        ("exec", "probe-1"),
        "{exec:?}"
    );
    assert_eq!(subscriber.wait_of("process.exit", &exec).number("/status"), Some(3));
    let close = kill_and_remove(&containerd, &subscriber, "c");
    assert_eq!(close.at("/seen"), close.at("/delivered"), "{close:?}");
}

/// Check that the end of an exec names the processes that it has left, and how long it has run, and
/// that an exec without living processes reports nothing.
#[test]
fn an_exec_reports_what_it_has_left() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let script = "sleep 2001 & sleep 2002 & /bin/sleep 0.3; :";
    containerd.ctr(&["task", "exec", "--exec-id", "leaky", "c", "sh", "-c", script]).success();
    let of_exec = ["events", "c", "--exec-id", "leaky", "--origin", "exec", "-o", "jsonl"];
    deadline::until("the report, selected by exec and origin", || {
        let read = containerd.lookout(&of_exec).run().success().stdout_text();
        read.contains("\"exec.left\"")
    });
    let left =
        subscriber.wait(deadline::PATIENCE, "the report", |event| event.kind() == "exec.left");
    assert_eq!(left.text("/containerd/exec_id"), "leaky", "{left:?}");
    assert_eq!((left.args(), left.number("/survivors_count")), (vec!["sh", "-c", script], Some(2)));
    for at in ["/survivors/0", "/survivors/1"] {
        let survivor = left.number(&format!("{at}/pid"));
        let run = subscriber.find(|event| event.number("/process/pid") == survivor);
        assert!(run.is_some_and(|run| run.text("/containerd/exec_id") == "leaky"), "{left:?}");
    }
    let exit = subscriber.wait_of("process.exit", &left);
    let ran_ns = exit.number("/run_time_ns").expect("a run time");
    assert!((300_000_000..5_000_000_000).contains(&ran_ns), "{exit:?}");
    containerd
        .ctr(&["task", "exec", "--exec-id", "clean", "c", "sh", "-c", "/bin/true & wait"])
        .success();
    kill_and_remove(&containerd, &subscriber, "c");
    let reports = subscriber.all().iter().filter(|event| event.kind() == "exec.left").count();
    assert_eq!(reports, 1);
    drop(subscriber);
    containerd.assert_nothing_left();
}
