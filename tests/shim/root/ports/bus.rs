//! Ports on containerd's bus, as stock `ctr events` prints them.

use super::{SOON, mount};
use crate::harness::containerd::{Containerd, Event, Version};

on_every_containerd! {
    ports_are_on_the_bus_by_default,
}

fn annotation<'a>(event: &'a Event, name: &str) -> &'a str {
    event.body["annotations"][format!("io.lookout.{name}")].as_str().unwrap_or_default()
}

/// Check that this containerd's own `ctr` prints the opening and closing of a port by default, and
/// that a container with `bus=none` has no events on the bus.
fn ports_are_on_the_bus_by_default(version: Version) {
    let containerd = Containerd::start_configured(version, "allow = [\"bus\"]\n");
    let events = containerd.events();
    let mount = mount();
    let command = ["/ports", "short", "1", "1000", "700"];
    containerd
        .run("quiet", &["--rm", "--mount", &mount, "--annotation", "io.lookout.bus=none"], &command)
        .run()
        .success();
    containerd.run("c", &["--rm", "--mount", &mount], &command).run().success();
    for topic in ["/lookout/port-open", "/lookout/port-close"] {
        let event = events.wait(SOON, topic, |event| event.topic == topic);
        let annotations = ["container", "transport", "address", "port", "scope", "executable"]
            .map(|name| annotation(&event, name));
        assert_eq!(
            annotations,
            ["c", "tcp", "127.0.0.1", "700", "loopback", "/ports"],
            "{event:?}"
        );
        assert!(!annotation(&event, "pid").is_empty(), "{event:?}");
        let within = annotation(&event, "network_namespace").parse::<u32>();
        assert!(within.is_ok_and(|inode| inode > 0), "{event:?}");
    }
    assert_eq!(events.count(|event| annotation(event, "container") == "quiet"), 0);
    assert_eq!(events.count(|event| event.topic.starts_with("/lookout/process-")), 0);
    drop(events);
    containerd.assert_nothing_left();
}
