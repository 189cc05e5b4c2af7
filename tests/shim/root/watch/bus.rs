//! containerd's bus, as stock `ctr events` prints it.

use std::time::Duration;

use crate::harness::containerd::{Containerd, Event, Version};

on_every_containerd! {
    starts_and_exits_are_on_the_bus_where_configured,
    a_flood_is_throttled_and_the_throttling_is_reported,
}

const SOON: Duration = Duration::from_secs(10);

fn with_processes_on_the_bus(version: Version) -> Containerd {
    Containerd::start_configured(version, "bus = \"processes\"\nallow = [\"bus\"]\n")
}

fn annotation<'a>(event: &'a Event, name: &str) -> &'a str {
    event.body["annotations"][format!("io.lookout.{name}")].as_str().unwrap_or_default()
}

/// Check that this containerd's own `ctr` prints a start and an exit as a Spec with the arguments,
/// and our fields as annotations; and that a container that did not enable it has none.
fn starts_and_exits_are_on_the_bus_where_configured(version: Version) {
    let containerd = with_processes_on_the_bus(version);
    let events = containerd.events();
    containerd.run("c", &["--rm"], &["sh", "-c", "/bin/true seen; exit 4"]).run().exit_code(4);
    let start = events.wait(SOON, "a start", |event| {
        event.topic == "/lookout/process-start" && event.body["process"]["args"][1] == "seen"
    });
    assert_eq!(annotation(&start, "container"), "c", "{start:?}");
    assert_eq!(annotation(&start, "origin"), "descendant", "{start:?}");
    let exit = events.wait(SOON, "the exit of init", |event| {
        event.topic == "/lookout/process-exit" && annotation(event, "origin") == "init"
    });
    assert_eq!((annotation(&exit, "status"), annotation(&exit, "code")), ("4", "4"), "{exit:?}");
    containerd
        .run("quiet", &["--rm", "--annotation", "io.lookout.bus=none"], &["true"])
        .run()
        .success();
    events.wait_topic("/tasks/delete", "quiet");
    assert_eq!(events.count(|event| annotation(event, "container") == "quiet"), 0);
    containerd.assert_nothing_left();
}

/// Check that a storm does not flood the bus, that withheld events are reported, and that task
/// events still come.
fn a_flood_is_throttled_and_the_throttling_is_reported(version: Version) {
    let containerd = with_processes_on_the_bus(version);
    let events = containerd.events();
    let calls = "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done";
    containerd.run("c", &["--rm"], &["sh", "-c", calls]).run().success();
    events.wait_topic("/tasks/exit", "c");
    events.wait_topic("/tasks/delete", "c");
    let is_process = |event: &Event| event.topic.starts_with("/lookout/process-");
    let throttle = |event: &Event| annotation(event, "type") == "observer.throttle";
    events.wait(SOON, "a throttle", throttle);
    assert!(events.count(is_process) < 1500, "{} of 2000", events.count(is_process));
    containerd.assert_nothing_left();
}
