//! Whose process it is: init's, an exec's, a descendant's, an intruder's; never the runtime's.

use std::process::Command;

use crate::harness::{
    containerd::{Containerd, Program, Runtime, Version},
    deadline,
};

/// Check that under each runtime the first told process is the user's, that an exec's processes
/// carry its id, and that no stage of the runtime is ever told.
fn only_the_users_processes(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let watching = containerd.watching();
    containerd.detached("c", &[], &["sh", "-c", "/bin/true; sleep 1000"]);
    let init = watching
        .wait(deadline::PATIENCE, "the first process", |told| told.kind().starts_with("process."));
    assert_eq!((init.kind(), init.text("/origin")), ("process.start", "init"), "{init:?}");
    assert_eq!(init.args(), ["sh", "-c", "/bin/true; sleep 1000"]);
    assert_eq!(init.number("/process/pid"), Some(containerd.pid("c").unsigned_abs().into()));
    let child = watching.wait_run(&["/bin/true"]);
    assert_eq!(child.text("/origin"), "descendant", "{child:?}");
    let exec = ["task", "exec", "--exec-id", "probe-1", "c", "sh", "-c", "/bin/echo hello; true"];
    containerd.ctr(&exec).success();
    let shell = watching.wait_run(&["sh", "-c", "/bin/echo hello; true"]);
    assert_eq!((shell.kind(), shell.text("/origin")), ("process.start", "exec"), "{shell:?}");
    assert_eq!(shell.text("/containerd/exec_id"), "probe-1", "{shell:?}");
    let echo = watching.wait_run(&["/bin/echo", "hello"]);
    assert_eq!(
        (echo.text("/origin"), echo.text("/containerd/exec_id")),
        ("descendant", "probe-1"),
        "{echo:?}"
    );
    watching.wait_of("process.done", &shell);
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    watching.wait_close("c");
    for told in watching.all() {
        let told_of = format!("{} {:?}", told.text("/process/executable/path"), told.args());
        assert!(
            !told_of.contains("runc") && !told_of.contains("crun"),
            "a stage of the runtime: {told:?}"
        );
        assert_ne!(told.text("/origin"), "injected", "{told:?}");
    }
    drop(watching);
    containerd.assert_nothing_left();
}

#[test]
fn only_the_users_processes_are_told_under_runc_1_1() {
    only_the_users_processes(Version::V1_6, Runtime::Runc1_1);
}

#[test]
fn only_the_users_processes_are_told_under_runc_1_3() {
    only_the_users_processes(Version::V1_7, Runtime::Runc1_3);
}

#[test]
fn only_the_users_processes_are_told_under_crun() {
    only_the_users_processes(Version::V2_1, Runtime::Crun1_21);
}

/// Check that a process that came into the container's namespaces from outside is told as injected.
#[test]
fn a_process_from_outside_is_told_as_injected() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let pid = containerd.pid("c").to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid, "--mount", "--pid", "/bin/sleep", "0.01"]);
    Program::new(nsenter).run().success();
    let intruder = watching.wait_run(&["/bin/sleep", "0.01"]);
    assert_eq!(intruder.text("/origin"), "injected", "{intruder:?}");
    watching.wait_of("process.exit", &intruder);
    // With the host's own files.
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid, "--pid", "/bin/sleep", "0.02"]);
    Program::new(nsenter).run().success();
    let intruder = watching.wait_run(&["/bin/sleep", "0.02"]);
    assert_eq!(intruder.text("/origin"), "injected", "{intruder:?}");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that on a node that is itself a container (its daemon in a pid namespace) pids are told as
/// that node counts, and everything else as anywhere.
#[test]
fn pids_are_told_as_the_node_counts() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.kill_9();
    containerd.restart_in_a_pid_namespace();
    let watching = containerd.watching();
    containerd.detached("c", &[], &["sh", "-c", "/bin/true; sleep 1000"]);
    let init = watching.wait_run(&["sh", "-c", "/bin/true; sleep 1000"]);
    assert_eq!(
        init.number("/process/pid"),
        Some(containerd.pid("c").unsigned_abs().into()),
        "{init:?}"
    );
    assert_eq!(init.text("/origin"), "init", "{init:?}");
    let child = watching.wait_run(&["/bin/true"]);
    assert_eq!(child.at("/process/parent_pid"), init.at("/process/pid"), "{child:?}");
    assert_eq!(child.text("/origin"), "descendant", "{child:?}");
    watching.wait_of("process.done", &child);
    containerd
        .ctr(&["task", "exec", "--exec-id", "probe-1", "c", "sh", "-c", "exit 3"])
        .exit_code(3);
    let exec = watching.wait_run(&["sh", "-c", "exit 3"]);
    assert_eq!(
        (exec.text("/origin"), exec.text("/containerd/exec_id")),
        ("exec", "probe-1"),
        "{exec:?}"
    );
    assert_eq!(watching.wait_of("process.exit", &exec).number("/status"), Some(3));
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    let close = watching.wait_close("c");
    assert_eq!(close.at("/seen"), close.at("/delivered"), "{close:?}");
}
