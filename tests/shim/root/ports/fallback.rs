//! Ports where eBPF cannot be had.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    super::watch::sources::alone, address, listed, mount, number, of, owners, remove, wait,
};
use crate::harness::{
    Process,
    containerd::{Containerd, Version},
};

/// Check that with each source that sees no ports a listener is told as opened by a look, with its
/// owner, and as closed within milliseconds of its end, and that what is the host's or another's is
/// not told.
#[test]
fn a_listener_is_told_by_the_kernels_list() {
    for source in ["connector", "poll"] {
        let containerd = Containerd::start(Version::V1_7);
        let _connector = alone(&containerd);
        let watching = containerd.watching();
        let flag = format!("io.lookout.source={source}");
        let flags = ["--annotation", flag.as_str(), "--mount", &mount()];
        containerd.detached("c", &flags, &["sleep", "1000"]);
        containerd.detached("other", &flags, &["/ports", "hold", "0.0.0.0", "701"]);
        let exec =
            ["task", "exec", "--exec-id", "e", "--detach", "c", "/ports", "hold", "::", "700"];
        containerd.program(&exec).run().success();
        let open = wait(&watching, "port.open", "c", 700);
        assert_eq!((open.text("/grade"), address(&open)), ("snapshot", "::"), "{open:?}");
        wait(&watching, "port.open", "other", 701);
        let port = listed(&containerd, "c").remove(0);
        let [owner] = owners(&port)[..] else { panic!("{port:?}") };
        assert_eq!((number(&port), port.text("/owners/0/executable/path")), (700, "/ports"));
        let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .expect("every Linux has it");
        Process::new(owner).signal(Signal::SIGKILL);
        let close = wait(&watching, "port.close", "c", 700);
        let noticed = Duration::from_nanos(close.number("/monotonic_ns").expect("always known"));
        let after = noticed.saturating_sub(Duration::from(before));
        // The kernel tells; the next look is up to 2 s away.
        assert!(after < Duration::from_millis(500), "{source}: closed after {after:?}");
        assert_eq!(of(&watching.all(), "port.close", "other").len(), 0);
        let answer =
            containerd.lookout(&["capabilities", "-o", "json", "--container", "c"]).run().success();
        let answer: serde_json::Value = serde_json::from_str(&answer.stdout_text()).expect("JSON");
        let network = &answer["categories"][2];
        assert_eq!(
            (&network["support"], &network["backend"]),
            (&"partial".into(), &"sock_diag".into()),
            "{network}"
        );
        remove(&containerd, "c");
        remove(&containerd, "other");
        watching.wait_close("other");
        drop(watching);
        containerd.assert_nothing_left_but_fifos();
    }
}
