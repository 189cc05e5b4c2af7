//! What is left when something of the watch dies.

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

/// Check that after `kill -9` of a shim the container is cleaned up as ever, its ring is swept by
/// the delete verb, and the doctor finds nothing wrong; while it lives, the doctor shows what is
/// pinned.
#[test]
fn a_killed_shims_ring_is_swept() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let events = containerd.events();
    containerd.detached("c", &[], &["sleep", "1000"]);
    // On a slow machine the container starts before it is watched.
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

/// Check that a bpffs that is unmounted underneath blinds nobody: what is watched stays so, and the
/// next container is watched too.
#[test]
fn an_unmounted_bpffs_blinds_nobody() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let watching = containerd.watching();
    containerd.detached("c", &[], &["sleep", "1000"]);
    watching.wait_run(&["sleep", "1000"]);
    containerd.remove_own_bpffs();
    containerd.exec("c", &[], &["true", "still"]).run().success();
    let told = watching.wait_run(&["true", "still"]);
    assert_eq!((told.text("/source"), told.text("/origin")), ("bpf", "exec"), "{told:?}");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    let close = watching.wait_close("c");
    assert_eq!(
        (close.at("/seen"), close.number("/lost")),
        (close.at("/delivered"), Some(0)),
        "{close:?}"
    );
    drop(watching);
    containerd.assert_nothing_left();
}
