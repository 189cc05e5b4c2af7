//! Containers that share a shim, and the protocol that a shim uses with each containerd.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{
    Task,
    containerd::{Containerd, Version},
    tools::SHIM,
};

on_every_containerd! {
    containers_of_a_pod_share_a_shim,
    starts_of_a_pod_that_race_get_one_shim,
    each_containerd_is_answered_in_its_newest_protocol,
    the_bundle_holds_the_address_of_the_shim,
    a_killed_shim_of_a_pod_leaves_nothing_of_any_container,
}

const GROUP: &str = "io.containerd.runc.v2.group";
const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";

fn member(containerd: &Containerd, id: &str, key: &str, pod: &str) {
    containerd.detached(id, &["--annotation", &format!("{key}={pod}")], &["sleep", "1000"]);
}

/// Check that containers of one group share the first one's shim, with either of the two
/// annotations, and that it serves until the last is removed.
fn containers_of_a_pod_share_a_shim(version: Version) {
    let containerd = Containerd::start(version);
    for (key, pod) in [(GROUP, "g"), (SANDBOX, "s")] {
        let ids = ["1", "2", "3"].map(|number| format!("{pod}{number}"));
        for id in &ids {
            member(&containerd, id, key, pod);
        }
        assert_eq!(containerd.shims().into_keys().collect::<Vec<_>>(), [ids[0].clone()]);
        assert_eq!(containerd.sockets().len(), 1);
        containerd.remove(&ids[0]);
        let output = containerd.exec(&ids[1], &[], &["echo", "still here"]).run().success();
        assert_eq!(output.stdout_text(), "still here\n");
        containerd.remove(&ids[1]);
        // A container may join a pod after its first container is removed.
        member(&containerd, &ids[1], key, pod);
        assert_eq!(containerd.shims().len(), 1);
        containerd.remove(&ids[1]);
        containerd.remove(&ids[2]);
        containerd.assert_nothing_left();
    }
}

/// Check that containers of a pod that start at the same time get one shim.
fn starts_of_a_pod_that_race_get_one_shim(version: Version) {
    let containerd = Containerd::start(version);
    for round in 0..5 {
        let (pod, ids) =
            (format!("pod{round}"), [0, 1, 2, 3].map(|number| format!("r{round}c{number}")));
        let annotation = format!("{GROUP}={pod}");
        let flags = ["--detach", "--annotation", &annotation];
        let running =
            ids.each_ref().map(|id| containerd.run(id, &flags, &["sleep", "1000"]).spawn());
        for client in running {
            client.wait().success();
        }
        assert_eq!(containerd.shims().len(), 1, "round {round}: {:?}", containerd.shims());
        for id in &ids {
            containerd.remove(id);
        }
        containerd.assert_nothing_left();
    }
}

/// Check that each containerd is answered in the newest protocol that it supports.
fn each_containerd_is_answered_in_its_newest_protocol(version: Version) {
    let containerd = Containerd::start(version);
    // This script is found before the shim; it stores the answer to `start`.
    let answer = containerd.path("answer");
    let script = format!(
        "case \"$*\" in *start) {SHIM} \"$@\" | tee {};; *) exec {SHIM} \"$@\";; esac",
        answer.display()
    );
    containerd.script("bin/containerd-shim-lookout-v2", &script);
    containerd.run("c", &["--rm"], &["true"]).run().success();
    let answer = fs::read_to_string(answer).expect("kept by the script");
    let bootstrap = serde_json::from_str::<Value>(&answer).ok();
    let version = bootstrap.as_ref().and_then(|bootstrap| bootstrap["version"].as_i64());
    match containerd.version() {
        Version::V1_6 => assert!(answer.starts_with("unix:///run/containerd/s/"), "{answer}"),
        Version::V1_7 => assert_eq!(version, Some(2), "{answer}"),
        Version::V2_1 => assert_eq!(version, Some(3), "{answer}"),
    }
    if let Some(bootstrap) = bootstrap {
        assert!(
            bootstrap["address"]
                .as_str()
                .is_some_and(|address| address.starts_with("unix:///run/containerd/s/"))
        );
        assert_eq!(bootstrap["protocol"].as_str(), Some("ttrpc"));
    }
    containerd.assert_nothing_left();
}

/// Check that the bundle holds the shim's address, for a containerd that is restarted, and that the
/// shim serves both versions of the Task service there.
fn the_bundle_holds_the_address_of_the_shim(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sleep", "1000"]);
    let address = format!("unix://{}", containerd.sockets()[0].display());
    assert_eq!(
        fs::read_to_string(containerd.bundle("c").join("address")).expect("written by the shim"),
        address
    );
    if containerd.version() == Version::V2_1 {
        let bootstrap =
            fs::read(containerd.bundle("c").join("bootstrap.json")).expect("written by containerd");
        let bootstrap = serde_json::from_slice::<Value>(&bootstrap).expect("JSON");
        assert_eq!(
            (bootstrap["address"].as_str(), bootstrap["version"].as_i64()),
            (Some(&*address), Some(3))
        );
    }
    for service in [2, 3] {
        let task = Task::connect(&address, service).expect("the shim listens");
        assert_eq!(
            task.state("c", "").expect("the shim answers").id,
            "c",
            "containerd.task.v{service}.Task"
        );
    }
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that when the shim of a pod is killed, the exit and the delete of each of its containers
/// are reported, and nothing is left.
fn a_killed_shim_of_a_pod_leaves_nothing_of_any_container(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    for id in ["1", "2"] {
        member(&containerd, id, GROUP, "p");
    }
    containerd.shim("1").signal(Signal::SIGKILL);
    for id in ["1", "2"] {
        assert_eq!(events.wait_topic("/tasks/exit", id).number("exit_status"), 137);
        events.wait_topic("/tasks/delete", id);
    }
    for id in ["1", "2"] {
        containerd.ctr(&["task", "rm", "--force", id]);
        containerd.ctr(&["container", "rm", id]).success();
    }
    containerd.assert_nothing_left_but_fifos();
}
