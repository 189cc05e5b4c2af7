//! Running out of memory is reported: before the exit that it causes, and for the right container.

use crate::harness::{
    containerd::{Containerd, Event, Version},
    deadline::PATIENCE,
};

on_every_containerd! {
    out_of_memory_is_reported_before_the_exit,
    out_of_memory_is_reported_for_the_right_container_of_a_pod,
    a_child_out_of_memory_is_reported_and_the_container_lives,
}

/// A limit so low that the allocation of [`HUNGRY`] fails within milliseconds.
const LIMIT: [&str; 2] = ["--memory-limit", "25165824"];

/// A command that touches 100 MiB at once.
const HUNGRY: [&str; 5] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"];

fn pod(name: &str) -> [String; 2] {
    ["--annotation".into(), format!("io.containerd.runc.v2.group={name}")]
}

fn run_out_of_memory(containerd: &Containerd, id: &str, flags: &[&str]) {
    containerd.run(id, &[&["--rm"], &LIMIT[..], flags].concat(), &HUNGRY).run().exit_code(137);
}

/// Check that an out-of-memory event of a container that runs out of memory within milliseconds of
/// its start is reported once and before its exit, in each of 20 rounds (containerd#6323,
/// containerd#12405).
fn out_of_memory_is_reported_before_the_exit(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    for round in 0..20 {
        let id = format!("c{round}");
        run_out_of_memory(&containerd, &id, &[]);
        events.wait_topic("/tasks/delete", &id);
        assert_eq!(events.of(&id), ["create", "start", "oom", "exit", "delete"], "round {round}");
    }
    containerd.assert_nothing_left();
}

/// Check that out of memory is reported for the affected container of a pod and for no other
/// (containerd#8893).
fn out_of_memory_is_reported_for_the_right_container_of_a_pod(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let pod = pod("p");
    let pod = pod.each_ref().map(String::as_str);
    containerd.detached("first", &[&LIMIT[..], &pod].concat(), &["sleep", "1000"]);
    containerd.detached("third", &[&LIMIT[..], &pod].concat(), &["sleep", "1000"]);
    for round in 0..5 {
        run_out_of_memory(&containerd, &format!("second{round}"), &pod);
    }
    events.wait_topic("/tasks/delete", "second4");
    assert_eq!(containerd.shims().len(), 1, "a pod has one shim");
    for round in 0..5 {
        let id = format!("second{round}");
        assert_eq!(events.of(&id), ["create", "start", "oom", "exit", "delete"], "round {round}");
    }
    assert_eq!(events.count(|event| event.topic == "/tasks/oom"), 5);
    containerd.remove("third");
    containerd.remove("first");
    containerd.assert_nothing_left();
}

/// Check that out of memory is reported if it kills only a child, and that the container runs on.
fn a_child_out_of_memory_is_reported_and_the_container_lives(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let script = format!("{}; sleep 1000", HUNGRY.join(" "));
    containerd.detached("c", &LIMIT, &["sh", "-c", &script]);
    events.wait_topic("/tasks/oom", "c");
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    containerd.exec("c", &[], &HUNGRY).run().exit_code(137);
    let twice = |events: &[Event]| {
        (events.iter().filter(|event| event.is("/tasks/oom", "c")).count() >= 2).then_some(())
    };
    events.wait_for(PATIENCE, "the second time", twice);
    containerd.exec("c", &[], &["true"]).run().success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}
