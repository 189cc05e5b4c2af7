//! Pause, resume, update, metrics, ps and kill, and the order of a container's events.

use std::fs;

use crate::harness::{
    containerd::{Containerd, Event, Version, is_unified},
    deadline::{self, PATIENCE},
};

on_every_containerd! {
    a_paused_container_stands_still_until_resumed,
    a_paused_container_can_be_removed,
    ps_distinguishes_execs_from_other_processes,
    metrics_are_the_containers_own,
    new_limits_reach_the_cgroup,
    a_signal_reaches_init,
    events_come_in_containerds_order,
}

/// Check that a paused container is reported as paused, does not run, and continues when resumed.
fn a_paused_container_stands_still_until_resumed(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sh", "-c", "while :; do echo >>/beats; usleep 5000; done"]);
    let beats = || {
        let path = format!("/proc/{}/root/beats", containerd.pid("c"));
        fs::read(path).map_or(0, |beats| beats.len())
    };
    containerd.ctr(&["task", "pause", "c"]).success();
    assert_eq!(containerd.status("c").as_deref(), Some("PAUSED"));
    // This takes at least as long as twenty beats, because each request takes longer than one.
    let before = beats();
    for _ in 0..20 {
        assert_eq!(beats(), before);
    }
    let refused = containerd.exec("c", &[], &["true"]).run();
    assert_ne!(refused.code, 0, "an exec in a paused container is refused");
    containerd.ctr(&["task", "resume", "c"]).success();
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    deadline::until("the container to go on", || beats() > before);
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that a paused container can be killed and removed.
fn a_paused_container_can_be_removed(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sleep", "1000"]);
    containerd.ctr(&["task", "pause", "c"]).success();
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]);
    containerd.ctr(&["task", "resume", "c"]);
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that ps lists each process and shows which are execs.
fn ps_distinguishes_execs_from_other_processes(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sh", "-c", "sleep 1000 & wait"]);
    let events = containerd.events();
    let exec =
        containerd.program(&["task", "exec", "--exec-id", "mine", "c", "sleep", "1000"]).spawn();
    events.wait(PATIENCE, "the exec", |event| event.is("/tasks/exec-started", "c"));
    let listed = containerd.ctr(&["task", "ps", "c"]).success().stdout_text();
    let rows = listed
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect::<Vec<_>>();
    assert_eq!(rows.len(), 3, "{listed}");
    let init = containerd.pid("c").to_string();
    assert!(rows.iter().any(|row| row[0] == init && row[1] == "-"), "init {init}: {listed}");
    let execs = rows.iter().filter(|row| row[1] != "-").collect::<Vec<_>>();
    assert_eq!(execs.len(), 1, "{listed}");
    assert!(listed.contains("ExecID:mine") || listed.contains("exec_id:\"mine\""), "{listed}");
    containerd.ctr(&["task", "kill", "--exec-id", "mine", "--signal", "SIGKILL", "c"]).success();
    exec.wait().exit_code(137);
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that metrics carry the container's own figures.
fn metrics_are_the_containers_own(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &["--memory-limit", "50331648"], &["sh", "-c", "sleep 1000 & wait"]);
    let output =
        containerd.ctr(&["task", "metrics", "--format", "json", "c"]).success().stdout_text();
    let metrics: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    let of = |words: &[&str]| words.iter().fold(&metrics, |value, word| &value[*word]).as_u64();
    // The messages of cgroup v1 and v2 have different names.
    let (limit, usage, total): (&[&str], &[&str], &[&str]) = if is_unified() {
        (&["memory", "usage_limit"], &["memory", "usage"], &["cpu", "usage_usec"])
    } else {
        (&["memory", "usage", "limit"], &["memory", "usage", "usage"], &["cpu", "usage", "total"])
    };
    assert_eq!(of(&["pids", "current"]), Some(2), "{output}");
    assert_eq!(of(limit), Some(48 << 20), "{output}");
    assert!(of(usage).is_some_and(|usage| usage > 0), "{output}");
    assert!(of(total).is_some_and(|total| total > 0), "{output}");
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that new limits reach the cgroup, and that an invalid limit is an error. ctr cannot update
/// limits, so the test calls the shim as containerd does.
fn new_limits_reach_the_cgroup(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &["--memory-limit", "50331648"], &["sleep", "1000"]);
    let limit = || containerd.memory_limit("c");
    assert_eq!(limit(), 48 << 20);
    let shim = containerd.task_service("c");
    shim.update("c", r#"{"memory":{"limit":67108864}}"#).expect("a good limit");
    assert_eq!(limit(), 64 << 20);
    shim.update("c", r#"{"memory":{"limit":"much"}}"#).expect_err("a limit that is no number");
    assert_eq!(limit(), 64 << 20);
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that init receives a signal given by name, and can handle it.
fn a_signal_reaches_init(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let handler = "trap 'exit 42' USR1; touch /ready; while :; do usleep 10000; done";
    containerd.detached("c", &[], &["sh", "-c", handler]);
    let ready = format!("/proc/{}/root/ready", containerd.pid("c"));
    deadline::until("the handler", || fs::exists(&ready).unwrap_or(false));
    containerd.ctr(&["task", "kill", "--signal", "SIGUSR1", "c"]).success();
    assert_eq!(events.wait_topic("/tasks/exit", "c").number("exit_status"), 42);
    containerd.wait_for_status("c", "STOPPED");
    let removed = containerd.ctr(&["task", "rm", "c"]).success().stderr_text();
    assert!(removed.contains("non-zero exit code 42"), "{removed}");
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left();
}

/// Check that the events of a container come in the order that containerd's docs/runtime-v2.md
/// requires, each once, with consistent pids and statuses.
fn events_come_in_containerds_order(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    containerd.detached("c", &[], &["sleep", "1000"]);
    let pid = containerd.pid("c");
    containerd
        .program(&["task", "exec", "--exec-id", "e", "c", "sh", "-c", "exit 5"])
        .run()
        .exit_code(5);
    containerd.ctr(&["task", "pause", "c"]).success();
    containerd.ctr(&["task", "resume", "c"]).success();
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    events.wait_topic("/tasks/exit", "c");
    containerd.remove("c");
    let is_last =
        |event: &Event| event.is("/tasks/delete", "c") && event.number("exit_status") == 137;
    events.wait(PATIENCE, "init's delete", is_last);
    containerd.assert_nothing_left();
    let expected = [
        "create",
        "start",
        "exec-added e",
        "exec-started e",
        "exit e",
        "paused",
        "resumed",
        "exit",
        "delete",
    ];
    let topics = events.of("c");
    // The delete event of an exec comes from containerd itself; 1.6 does not send it.
    let topics = topics.into_iter().filter(|event| event != "delete e").collect::<Vec<_>>();
    assert_eq!(topics, expected);
    for (topic, name) in
        [("/tasks/create", "pid"), ("/tasks/start", "pid"), ("/tasks/delete", "pid")]
    {
        let event = events
            .find(|event| event.is(topic, "c") && event.process() != "e")
            .expect("in the list");
        assert_eq!(event.number(name), u64::try_from(pid).expect("a pid"), "{event:?}");
    }
    let exec = events
        .find(|event| event.is("/tasks/exit", "c") && event.process() == "e")
        .expect("in the list");
    assert_eq!(exec.number("exit_status"), 5);
}
