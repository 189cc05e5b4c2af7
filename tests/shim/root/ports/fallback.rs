//! Ports where eBPF is not available.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    super::watch::sources::lock_connector, address, listed, mount, number, of, owners, remove, wait,
};
use crate::harness::{
    Process,
    containerd::{Containerd, Version},
};

/// Check that with each source that sees no ports, the opening of a listener is reported by a scan,
/// with its owner, and its closing within milliseconds; and that ports of the host or of another
/// container are not reported.
#[test]
fn a_listener_is_found_in_the_kernels_list() {
    for source in ["connector", "poll"] {
        let settings = format!("source = \"{source}\"\n");
        let containerd = Containerd::start_configured(Version::V1_7, &settings);
        let _connector = lock_connector(&containerd);
        let subscriber = containerd.subscribe();
        let flags = ["--mount", &mount()];
        containerd.detached("c", &flags, &["sleep", "1000"]);
        containerd.detached("other", &flags, &["/ports", "hold", "0.0.0.0", "701"]);
        let exec =
            ["task", "exec", "--exec-id", "e", "--detach", "c", "/ports", "hold", "::", "700"];
        containerd.program(&exec).run().success();
        let open = wait(&subscriber, "port.open", "c", 700);
        assert_eq!((open.text("/grade"), address(&open)), ("snapshot", "::"), "{open:?}");
        wait(&subscriber, "port.open", "other", 701);
        let port = listed(&containerd, "c").remove(0);
        let [owner] = owners(&port)[..] else { panic!("{port:?}") };
        assert_eq!((number(&port), port.text("/owners/0/executable/path")), (700, "/ports"));
        let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .expect("every Linux has it");
        Process::new(owner).signal(Signal::SIGKILL);
        let close = wait(&subscriber, "port.close", "c", 700);
        let noticed = Duration::from_nanos(close.number("/monotonic_ns").expect("always known"));
        let after = noticed.saturating_sub(Duration::from(before));
        // The kernel's destroy message reports it; the next scan is up to 2 s away.
        assert!(after < Duration::from_millis(500), "{source}: closed after {after:?}");
        assert_eq!(of(&subscriber.all(), "port.close", "other").len(), 0);
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
        subscriber.wait_close("other");
        drop(subscriber);
        containerd.assert_nothing_left_but_fifos();
    }
}
