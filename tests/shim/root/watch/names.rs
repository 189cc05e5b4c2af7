//! What the configuration of a container says about it, which events do not repeat and readers see
//! nevertheless.

use std::time::Duration;

use serde_json::Value;

use super::kill_and_remove;
use crate::harness::containerd::{Containerd, Version};

/// The values of `k8s.pod.name` in lines of events, but those of hellos.
fn pods(lines: &str) -> Vec<Value> {
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let events = events.filter(|event| event["type"] != "hello");
    events.map(|event| event["k8s"]["pod"]["name"].clone()).collect()
}

/// Check that every event that a reader gets has the container's names, cut to the longest name in
/// Kubernetes: from a stream that began before the container, and from the journal, also with
/// filters that leave out its start. And that the names take no space in each event.
#[test]
fn every_event_that_is_read_has_the_names_of_its_container() {
    let containerd = Containerd::start_configured(Version::V1_7, "journal_max = \"64KiB\"\n");
    let [all, exits] =
        [&[][..], &["--type", "process.exit"]].map(|arguments| containerd.subscribe_to(arguments));
    let name = "n".repeat(4096);
    let annotation = format!("io.kubernetes.cri.sandbox-name={name}");
    containerd.detached("c", &["--annotation", &annotation], &["sleep", "1000"]);
    let script = "i=0; while [ $i -lt 20 ]; do /bin/true $i; i=$((i+1)); done";
    containerd.exec("c", &[], &["sh", "-c", script]).run().success();
    for subscriber in [&all, &exits] {
        let last = subscriber.wait(Duration::from_secs(30), "the last exit", |event| {
            event.kind() == "process.exit" && event.args() == ["sh", "-c", script]
        });
        assert_eq!(last.at("/k8s/pod/name"), &name[..253]);
    }
    let read = |arguments: &[&str]| {
        let command = [&["events", "-o", "jsonl", "--container", "c"], arguments].concat();
        pods(&containerd.lookout(&command).run().success().stdout_text())
    };
    let filtered = read(&["--type", "process.exit"]);
    assert!(filtered.len() > 20 && filtered.iter().all(|pod| *pod == name[..253]), "{filtered:?}");
    let read = read(&[]);
    // With the names in each, the journal would have about 64 KiB / (4 KiB + 250 bytes) events.
    assert!(read.len() > 60, "{} events", read.len());
    assert!(read.iter().all(|pod| *pod == name[..253]), "{read:?}");
    drop(exits);
    kill_and_remove(&containerd, &all, "c");
    let without =
        all.find(|event| event.kind() != "hello" && event.at("/k8s/pod/name") != &name[..253]);
    assert!(without.is_none(), "{without:?}");
    drop(all);
    containerd.assert_nothing_left();
}

/// Check that containers are found by image, name and annotation, that the annotations are shown
/// once, and that neither a secret nor a setting is among them.
#[test]
fn a_container_is_found_by_what_its_configuration_says() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let annotations = [
        "io.kubernetes.cri.image-name=docker.io/library/busybox:1.36",
        "nerdctl/name=shop",
        "team=web",
        "db-password=hunter2-hunter2",
        "io.lookout.idle_after=1h",
    ];
    let options: Vec<&str> =
        annotations.iter().flat_map(|annotation| ["--annotation", annotation]).collect();
    containerd.detached("c", &options, &["sleep", "1000"]);
    containerd.detached("other", &["--annotation", "team=db"], &["sleep", "1001"]);
    let begun = subscriber.wait(Duration::from_secs(30), "the beginning", |event| {
        event.kind() == "container.start" && event.at("/container/id") == "c"
    });
    assert_eq!(
        begun.at("/container"),
        &serde_json::json!({
            "id": "c",
            "name": "shop",
            "image": { "name": "docker.io/library/busybox:1.36" },
            "annotations": { "team": "web", "db-password": "[redacted]" },
        })
    );
    let started = subscriber.wait(Duration::from_secs(30), "the start", |event| {
        event.kind() == "process.start" && event.at("/container/id") == "c"
    });
    assert_eq!(started.at("/container/image/name"), "docker.io/library/busybox:1.36");
    assert!(started.at("/container/annotations").is_null(), "{started:?}");
    for wanted in [
        &["--image", "busybox"][..],
        &["--image", "library/busybox:1.36"],
        &["--label", "team=web"],
        &["--label", "team=web", "--label", "db-password"],
        &["shop"],
    ] {
        let found = containerd.lookout(&[&["ps", "-o", "wide"], wanted].concat()).run().success();
        let found = found.stdout_text();
        assert!(found.contains("sleep 1000") && !found.contains("sleep 1001"), "{found}");
    }
    for nothing in
        [&["--label", "team=x"][..], &["--image", "busy"], &["--label", "io.lookout.idle_after"]]
    {
        containerd.lookout(&[&["ps"], nothing].concat()).run().exit_code(3);
    }
    kill_and_remove(&containerd, &subscriber, "c");
    kill_and_remove(&containerd, &subscriber, "other");
    drop(subscriber);
    containerd.assert_nothing_left();
}
