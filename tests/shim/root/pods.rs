//! Containers that share a shim, and how each containerd and the shim agree on a protocol.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::containerd::{Containerd, Version};

const GROUP: &str = "io.containerd.runc.v2.group";
const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";

fn member(containerd: &Containerd, id: &str, key: &str, pod: &str) {
    containerd.detached(id, &["--annotation", &format!("{key}={pod}")], &["sleep", "1000"]);
}

on_every_containerd! {
    /// Check that containers of one group share the first one's shim, whichever of the two
    /// annotations says so, and that it serves until the last has gone.
    fn containers_of_a_pod_share_a_shim(containerd) {
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
            // One may join a pod whose first container has gone.
            member(&containerd, &ids[1], key, pod);
            assert_eq!(containerd.shims().len(), 1);
            containerd.remove(&ids[1]);
            containerd.remove(&ids[2]);
            containerd.assert_nothing_left();
        }
    }

    /// Check that the containers of a pod that start at the same time get one shim.
    fn starts_of_a_pod_that_race_get_one_shim(containerd) {
        for round in 0..5 {
            let (pod, ids) = (format!("pod{round}"), [0, 1, 2, 3].map(|number| format!("r{round}c{number}")));
            let annotation = format!("{GROUP}={pod}");
            let flags = ["--detach", "--annotation", &annotation];
            let running = ids.each_ref().map(|id| containerd.run(id, &flags, &["sleep", "1000"]).spawn());
            running.map(|client| client.wait().success());
            assert_eq!(containerd.shims().len(), 1, "round {round}: {:?}", containerd.shims());
            ids.each_ref().map(|id| containerd.remove(id));
            containerd.assert_nothing_left();
        }
    }

    /// Check that each containerd gets the newest protocol that it understands, and finds the
    /// shim's address where it looks for it after a restart.
    fn each_containerd_gets_its_newest_protocol(containerd) {
        containerd.detached("c", &[], &["sleep", "1000"]);
        let sockets = containerd.sockets();
        let address = format!("unix://{}", sockets[0].display());
        assert_eq!(fs::read_to_string(containerd.bundle("c").join("address")).expect("written by the shim"), address);
        let bootstrap = fs::read_to_string(containerd.bundle("c").join("bootstrap.json")).ok();
        let bootstrap = bootstrap.map(|text| serde_json::from_str::<Value>(&text).expect("containerd writes JSON"));
        let version = bootstrap.as_ref().map(|said| said["version"].as_i64());
        match containerd.version() {
            Version::V1_6 => assert_eq!(version, None, "1.6 keeps the address alone"),
            Version::V1_7 => assert_eq!(version, Some(Some(2))),
            Version::V2_1 => assert_eq!(version, Some(Some(3))),
        }
        if let Some(said) = bootstrap {
            assert_eq!((said["address"].as_str(), said["protocol"].as_str()), (Some(&*address), Some("ttrpc")));
        }
        for service in [2, 3] {
            let task = crate::harness::Task::connect(&address, service).expect("the shim listens");
            assert_eq!(task.state("c", "").expect("the shim answers").id, "c", "containerd.task.v{service}.Task");
        }
        containerd.remove("c");
        containerd.assert_nothing_left();
    }

    /// Check that when the shim of a pod is killed, the exit and the delete of each of its
    /// containers are told, and nothing is left.
    fn a_killed_shim_of_a_pod_leaves_nothing_of_any_container(containerd) {
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
        containerd.assert_nothing_left();
    }
}
