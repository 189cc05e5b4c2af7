//! The shim is killed or stopped.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{
    Process,
    containerd::{Containerd, Version},
    deadline::{self, PATIENCE},
};

on_every_containerd! {
    a_killed_shim_leaves_nothing_and_its_exit_is_reported,
    a_killed_shims_recorded_exit_is_reported,
    a_stopped_shim_does_not_affect_others_and_continues,
}

/// The init of a container, found by its cgroup because the shim does not answer.
fn init(containerd: &Containerd, id: &str) -> Process {
    let pids = fs::read_to_string(containerd.memory_cgroup(id).join("cgroup.procs"))
        .expect("the cgroup of the container");
    Process::new(pids.lines().next().and_then(|pid| pid.parse::<i32>().ok()).expect("an init"))
}

/// Check that after `kill -9` of the shim the exit and the delete are reported with init's pid
/// (containerd#6402), that clients return, and that no process, mount, cgroup or socket is left.
fn a_killed_shim_leaves_nothing_and_its_exit_is_reported(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let run = containerd.run("c", &[], &["sh", "-c", "sleep 1000 & sleep 1000"]).spawn();
    events.wait_topic("/tasks/start", "c");
    let exec = containerd.exec("c", &[], &["sleep", "1000"]).spawn();
    events.wait(PATIENCE, "the exec", |event| event.is("/tasks/exec-started", "c"));
    let pid = containerd.pid("c");
    containerd.shim("c").signal(Signal::SIGKILL);
    let (exit, delete) =
        (events.wait_topic("/tasks/exit", "c"), events.wait_topic("/tasks/delete", "c"));
    for event in [&exit, &delete] {
        assert_eq!(
            (event.number("pid"), event.number("exit_status")),
            (pid.unsigned_abs().into(), 137),
            "{event:?}"
        );
    }
    // The exit codes of the clients are up to containerd; it matters here only that they return.
    run.wait();
    exec.wait();
    deadline::until("the task to be gone", || {
        containerd.status("c").is_none_or(|status| status == "STOPPED")
    });
    containerd.ctr(&["task", "rm", "--force", "c"]);
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left_but_fifos();
}

/// Check that if a container had ended before its shim was killed, every later event of it has its
/// true exit status.
fn a_killed_shims_recorded_exit_is_reported(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    containerd.detached("c", &[], &["sh", "-c", "exit 9"]);
    events.wait_topic("/tasks/exit", "c");
    containerd.shim("c").signal(Signal::SIGKILL);
    assert_eq!(events.wait_topic("/tasks/delete", "c").number("exit_status"), 9);
    containerd.ctr(&["task", "rm", "--force", "c"]);
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left_but_fifos();
    for event in events.all().iter().filter(|event| event.is("/tasks/exit", "c")) {
        assert_eq!(event.number("exit_status"), 9, "{event:?}");
    }
}

/// Check that a stopped shim does not affect other shims, and that it works again after it is
/// continued.
fn a_stopped_shim_does_not_affect_others_and_continues(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    containerd.detached("stopped", &[], &["sh", "-c", "sleep 1000"]);
    containerd.detached("other", &[], &["sleep", "1000"]);
    let shim = containerd.shim("stopped");
    shim.signal(Signal::SIGSTOP);
    containerd.exec("other", &[], &["true"]).run().success();
    containerd.remove("other");
    events.wait_topic("/tasks/delete", "other");
    init(&containerd, "stopped").signal(Signal::SIGKILL);
    shim.signal(Signal::SIGCONT);
    assert_eq!(events.wait_topic("/tasks/exit", "stopped").number("exit_status"), 137);
    containerd.remove("stopped");
    containerd.assert_nothing_left();
}
