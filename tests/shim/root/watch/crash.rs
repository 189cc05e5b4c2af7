//! What is left when a part of the observation dies.

use super::kill_and_remove;
use crate::harness::{
    containerd::{Containerd, Version},
    deadline,
};
use nix::sys::signal::Signal;
use serde_json::Value;

fn doctor(containerd: &Containerd, arguments: &[&str]) -> Value {
    let report =
        containerd.lookout(&[&["doctor", "-o", "json"], arguments].concat()).run().stdout_text();
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

/// Check that after `kill -9` of a shim the container is cleaned up as usual, the delete verb
/// removes its ring, and `lookout doctor` finds nothing wrong; and that `lookout doctor` lists what
/// is pinned while the shim runs.
#[test]
fn a_killed_shims_ring_is_swept() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let events = containerd.events();
    containerd.detached("c", &[], &["sleep", "1000"]);
    // On a slow machine the container starts before it is observed.
    deadline::until("the ring to be there", || doctor(&containerd, &[])["bpf"]["targets"] == 1);
    let report = doctor(&containerd, &[]);
    assert_eq!(report["bpf"]["rings"], 1, "{report}");
    assert_eq!(report["bpf"]["targets"], 1, "{report}");
    assert_eq!(report["bpf"]["programs"].as_array().map(Vec::len), Some(7), "{report}");
    containerd.shim("c").signal(Signal::SIGKILL);
    events.wait_topic("/tasks/delete", "c");
    deadline::until("the ring to be swept", || {
        let report = doctor(&containerd, &[]);
        report["bpf"]["rings"] == 0
            && report["bpf"]["stale_rings"] == 0
            && report["bpf"]["targets"] == 0
    });
    let report = doctor(&containerd, &["--sweep"]);
    assert_eq!(report["wrong"], Value::Array(Vec::new()), "{report}");
    assert_eq!(report["swept"]["rings"], 0, "{report}");
    containerd.ctr(&["task", "rm", "--force", "c"]);
    containerd.ctr(&["container", "rm", "c"]).success();
    drop(events);
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left_but_fifos();
}

/// Check that a sweep by a process in another time namespace, which sees other starts of processes,
/// frees nothing of a living shim.
#[test]
fn a_sweep_from_another_time_namespace_removes_nothing_of_a_living_shim() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    subscriber.wait_run(&["sleep", "1000"]);
    for shift in ["86400", "-5"] {
        let unshare = ["unshare", "--time", "--fork", "--boottime", shift, "--monotonic", "7"];
        let sweep = ["doctor", "--sweep", "-o", "json"];
        let report = containerd.lookout_under(&unshare, &sweep).run().success().stdout_text();
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["swept"]["rings"], 0, "{report}");
        assert_eq!(report["swept"]["targets"], 0, "{report}");
        assert_eq!((&report["bpf"]["rings"], &report["shims"]["living"]), (&1.into(), &1.into()));
        containerd.exec("c", &[], &["true", shift]).run().success();
        subscriber.wait_run(&["true", shift]);
    }
    let close = kill_and_remove(&containerd, &subscriber, "c");
    assert_eq!(close.number("/lost"), Some(0), "{close:?}");
    drop(subscriber);
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// Check that unmounting bpffs does not stop observation: neither of observed containers nor of the
/// next one.
#[test]
fn an_unmounted_bpffs_does_not_stop_observation() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    subscriber.wait_run(&["sleep", "1000"]);
    containerd.remove_own_bpffs();
    containerd.exec("c", &[], &["true", "still"]).run().success();
    let event = subscriber.wait_run(&["true", "still"]);
    assert_eq!((event.text("/source"), event.text("/origin")), ("bpf", "exec"), "{event:?}");
    let close = kill_and_remove(&containerd, &subscriber, "c");
    assert_eq!(
        (close.at("/seen"), close.number("/lost")),
        (close.at("/delivered"), Some(0)),
        "{close:?}"
    );
    drop(subscriber);
    containerd.assert_nothing_left();
}
