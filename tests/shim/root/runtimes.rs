//! Runtimes that are slow or broken, and other good runtimes than runc 1.1.

use std::{fs, os::unix::fs::symlink, time::Duration};

use nix::sys::signal::Signal;

use crate::harness::{
    containerd::{Containerd, IMAGE, Runtime, Version},
    deadline,
    tools::SHIM,
};

on_every_containerd! {
    a_runtime_that_prints_garbage_is_quoted_at_once,
    an_execs_runtime_that_prints_garbage_is_quoted,
    a_hanging_create_can_be_killed,
    a_hanging_create_ends_when_its_client_gives_up,
    an_init_killed_amid_create_is_no_deadlock,
    an_exec_after_the_end_of_init_leaves_no_process,
    a_client_may_name_the_runtimes_binary,
    under_runc_1_3_a_task_serves_every_request,
    under_crun_1_21_a_task_serves_every_request,
}

/// Installs a runtime that runs the script `does` for the argument `verb`, before or instead of the
/// real runtime.
fn runtime_that(containerd: &Containerd, verb: &str, does: &str) {
    let real = containerd.runtime_binary();
    containerd.script(
        "bin/runc",
        &format!("case \"$*\" in *' {verb} '*) {does};; esac; exec {real} \"$@\""),
    );
}

/// Check that a runtime that prints 300 kB of garbage and exits with 77 causes an error within 5 s
/// that quotes it, and that nothing is left (containerd#4434).
fn a_runtime_that_prints_garbage_is_quoted_at_once(version: Version) {
    let containerd = Containerd::start(version);
    let garbage = "head -c 300000 /dev/zero | tr '\\0' x; \
                   head -c 300000 /dev/zero | tr '\\0' y >&2; echo the end >&2; exit 77";
    runtime_that(&containerd, "create", garbage);
    let failed =
        containerd.run("c", &["--rm"], &["true"]).within(Duration::from_secs(5)).run().exit_code(1);
    let error = failed.stderr_text();
    assert!(
        error.contains("77") && error.contains("yyyyyyyy") && error.contains("the end"),
        "{error}"
    );
    assert!(error.len() < 20_000, "{} bytes of it", error.len());
    containerd.assert_nothing_left();
}

/// Check that garbage from the runtime of an exec causes an error that quotes it, and that the
/// container continues.
fn an_execs_runtime_that_prints_garbage_is_quoted(version: Version) {
    let containerd = Containerd::start(version);
    runtime_that(
        &containerd,
        "exec",
        "head -c 300000 /dev/zero | tr '\\0' y >&2; echo the end >&2; exit 77",
    );
    containerd.detached("c", &[], &["sleep", "1000"]);
    let failed =
        containerd.exec("c", &[], &["true"]).within(Duration::from_secs(5)).run().exit_code(1);
    assert!(failed.stderr_text().contains("the end"), "{}", failed.stderr_text());
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that a kill by another client ends a hanging create: the client that waits for it gets an
/// error, and nothing is left. ctr requires a task before it kills, and there is none yet, so the
/// test calls the shim as containerd does.
fn a_hanging_create_can_be_killed(version: Version) {
    let containerd = Containerd::start(version);
    let began = containerd.path("began");
    runtime_that(&containerd, "create", &format!("touch {}; sleep 1000", began.display()));
    let client = containerd.run("c", &["--rm"], &["true"]).within(Duration::from_secs(5)).spawn();
    deadline::until("the create to begin", || began.exists());
    containerd.task_service("c").kill("c", "", 9).expect("a create can be killed");
    let failed = client.wait().exit_code(1);
    assert!(failed.stderr_text().contains("create"), "{}", failed.stderr_text());
    assert_eq!(containerd.status("c"), None);
    containerd.assert_nothing_left();
}

/// Check that nothing is left when a client gives up on a hanging create.
fn a_hanging_create_ends_when_its_client_gives_up(version: Version) {
    let containerd = Containerd::start(version);
    let began = containerd.path("began");
    runtime_that(&containerd, "create", &format!("touch {}; sleep 1000", began.display()));
    let client = containerd.run("c", &["--detach"], &["true"]).spawn();
    deadline::until("the create to begin", || began.exists());
    client.signal(Signal::SIGKILL);
    client.wait();
    containerd.assert_nothing_left_but_fifos();
    containerd.ctr(&["container", "rm", "c"]).success();
}

/// Check that when init is killed before create returns, the result is an error or a stopped task,
/// and no deadlock (containerd#9103, containerd#9104).
fn an_init_killed_amid_create_is_no_deadlock(version: Version) {
    let containerd = Containerd::start(version);
    let real = containerd.runtime_binary();
    containerd.script(
        "bin/runc",
        &format!(
            "case \"$*\" in *' create '*) {real} \"$@\"; code=$?; \
             kill -9 $(cat init.pid); sleep 0.3; exit $code;; esac; exec {real} \"$@\"",
        ),
    );
    containerd.run("c", &["--rm"], &["sleep", "1000"]).within(Duration::from_secs(10)).run();
    containerd.ctr(&["task", "rm", "--force", "c"]);
    containerd.ctr(&["container", "rm", "c"]);
    containerd.assert_nothing_left();
}

/// Check that a slow exec fails and leaves no process if the container's init, which shares the
/// host's pid namespace, is killed meanwhile (containerd#10589).
fn an_exec_after_the_end_of_init_leaves_no_process(version: Version) {
    let containerd = Containerd::start(version);
    let (began, go) = (containerd.path("began"), containerd.path("go"));
    runtime_that(
        &containerd,
        "exec",
        &format!("touch {}; until [ -e {} ]; do sleep 0.02; done", began.display(), go.display(),),
    );
    let events = containerd.events();
    let host = format!("pid:/proc/{}/ns/pid", std::process::id());
    containerd.detached("c", &["--with-ns", &host], &["sleep", "1000"]);
    let exec = containerd.exec("c", &[], &["sleep", "987"]).spawn();
    deadline::until("the exec to begin", || began.exists());
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    fs::write(go, "").expect("our directory is writable");
    assert_ne!(exec.wait().code, 0);
    events.wait_topic("/tasks/exit", "c");
    containerd.wait_for_status("c", "STOPPED");
    containerd.remove("c");
    containerd.assert_nothing_left_but_fifos();
}

/// Check that a client can choose the runtime's binary, as with containerd's own shim.
fn a_client_may_name_the_runtimes_binary(version: Version) {
    let containerd = Containerd::start(version);
    // ctr passes that option only to a runtime with this name, so the shim runs under that name.
    symlink(SHIM, containerd.path("bin/containerd-shim-runc-v2"))
        .expect("our directory is writable");
    let (used, real) = (containerd.path("used"), containerd.runtime_binary());
    let binary =
        containerd.script("my-runc", &format!("touch {}; exec {real} \"$@\"", used.display()));
    let run = [
        "run",
        "--rm",
        "--runtime",
        "io.containerd.runc.v2",
        "--runc-binary",
        &binary,
        IMAGE,
        "c",
        "sh",
        "-c",
        "exit 4",
    ];
    containerd.ctr(&run).exit_code(4);
    assert!(used.exists(), "another binary was used");
    containerd.assert_nothing_left();
}

/// Uses every request that a client needs for a task, one after the other.
fn serve_every_request(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let events = containerd.events();
    let output = containerd
        .run("short", &["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 3"])
        .run()
        .exit_code(3);
    assert_eq!((output.stdout_text().as_str(), output.stderr_text().as_str()), ("out\n", "err\n"));
    let tty = containerd
        .run("tty", &["--rm", "--tty"], &["sh", "-c", "tty; exit 5"])
        .terminal(24, 80)
        .run()
        .exit_code(5);
    assert!(tty.stdout_text().contains("/dev/pts/0"), "{}", tty.stdout_text());
    let failed = containerd.run("nope", &["--rm"], &["/nope"]).run().exit_code(1);
    assert!(failed.stderr_text().contains("/nope"), "{}", failed.stderr_text());

    containerd.detached("c", &["--memory-limit", "67108864"], &["sleep", "1000"]);
    let output = containerd.exec("c", &[], &["sh", "-c", "echo out; exit 7"]).run().exit_code(7);
    assert_eq!(output.stdout_text(), "out\n");
    containerd
        .exec("c", &["--tty"], &["sh", "-c", "tty; exit 6"])
        .terminal(24, 80)
        .run()
        .exit_code(6);
    containerd.ctr(&["task", "pause", "c"]).success();
    assert_eq!(containerd.status("c").as_deref(), Some("PAUSED"));
    containerd.ctr(&["task", "resume", "c"]).success();
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    containerd
        .task_service("c")
        .update("c", r#"{"memory":{"limit":100663296}}"#)
        .expect("a good limit");
    assert_eq!(containerd.memory_limit("c"), 100_663_296);
    assert_eq!(containerd.ctr(&["task", "ps", "c"]).success().stdout_text().lines().count(), 2);
    assert!(
        containerd.ctr(&["task", "metrics", "c"]).success().stdout_text().contains("memory.usage")
    );
    containerd.ctr(&["task", "kill", "--signal", "SIGTERM", "c"]).success();
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    assert_eq!(events.wait_topic("/tasks/exit", "c").number("exit_status"), 137);
    containerd.remove("c");

    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"];
    containerd.run("oom", &["--rm", "--memory-limit", "25165824"], &hungry).run().exit_code(137);
    events.wait_topic("/tasks/delete", "oom");
    assert_eq!(events.of("oom"), ["create", "start", "oom", "exit", "delete"]);
    let order =
        events.of("c").into_iter().filter(|event| !event.contains("exec-")).collect::<Vec<_>>();
    assert_eq!(order, ["create", "start", "paused", "resumed", "exit", "delete"]);
    containerd.assert_nothing_left();
}

/// Check that a task under runc 1.3 serves every request of a client.
fn under_runc_1_3_a_task_serves_every_request(version: Version) {
    serve_every_request(version, Runtime::Runc1_3);
}

/// Check that a task under crun 1.21 serves every request of a client.
fn under_crun_1_21_a_task_serves_every_request(version: Version) {
    serve_every_request(version, Runtime::Crun1_21);
}
