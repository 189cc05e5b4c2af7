//! When a container is idle.

use std::{fs, io::Write as _, net::TcpStream, thread, time::Duration};

use super::{super::watch::sources::alone, SOON, listener, number, remove};
use crate::harness::containerd::{Containerd, Told, Version, Watching};

/// What every container here asks for.
const AFTER: Duration = Duration::from_secs(1);

/// Waits for the next record of this type after so many of it; tells how many there are then.
#[track_caller]
fn next(watching: &Watching, kind: &str, before: &mut usize) -> Told {
    *before += 1;
    let wanted = *before;
    watching.wait_for(SOON, kind, |told| {
        told.iter().filter(|told| told.kind() == kind).nth(wanted - 1).cloned()
    })
}

/// Whether the shim answers so.
fn is_idle(containerd: &Containerd) -> bool {
    let page = containerd.lookout(&["inspect", "c", "-o", "json"]).run().success().stdout_text();
    let page: serde_json::Value = serde_json::from_str(&page).expect("an object");
    page["idle"].as_bool().expect("told")
}

/// Check, with eBPF and without, that a container that is quiet for as long as was asked for is
/// told as idle once, and that an exec, a connection and input each make it active, and idle again
/// after their end and not before.
#[test]
fn a_quiet_container_is_idle_until_something_happens() {
    for source in ["bpf", "connector"] {
        let containerd = Containerd::start(Version::V1_7);
        let _connector = alone(&containerd);
        let watching = containerd.watching();
        let source = format!("io.lookout.source={source}");
        let flags =
            ["--net-host", "--annotation", "io.lookout.idle_after=1s", "--annotation", &source];
        listener(&containerd, "c", &flags, &["hold", "127.0.0.1", "0"]);
        let port = watching.wait(SOON, "the port", |told| told.kind() == "port.open");
        let (mut idle, mut active) = (0, 0);
        let told = next(&watching, "container.idle", &mut idle);
        let quiet = Duration::from_nanos(told.number("/quiet_ns").expect("told"));
        assert!(quiet >= AFTER && quiet < 10 * AFTER, "{quiet:?}");
        assert!(is_idle(&containerd));

        let exec = containerd.exec("c", &[], &["sleep", "3"]).spawn();
        assert_eq!(next(&watching, "container.active", &mut active).text("/cause"), "exec");
        assert!(!is_idle(&containerd));
        exec.wait().success();
        let of_exec = |told: &Told| told.kind() == "process.exit" && told.text("/origin") == "exec";
        let end = watching.wait(SOON, "the exec's exit", of_exec).number("/monotonic_ns");
        assert!(
            next(&watching, "container.idle", &mut idle).number("/monotonic_ns") > end,
            "while an exec ran"
        );

        let address = format!("127.0.0.1:{}", number(&port));
        let stream = TcpStream::connect(address).expect("it listens");
        assert_eq!(next(&watching, "container.active", &mut active).text("/cause"), "connection");
        thread::sleep(3 * AFTER);
        assert_eq!(
            watching.count(|told| told.kind() == "container.idle"),
            idle,
            "while a connection was established"
        );
        drop(stream);
        next(&watching, "container.idle", &mut idle);

        let folders = fs::read_dir("/run/containerd/fifo").expect("made by ctr").flatten();
        let fifo = folders
            .map(|folder| folder.path().join("c-stdin"))
            .find(|fifo| fifo.exists())
            .expect("made by ctr");
        let mut fifo = fs::File::options().write(true).open(fifo).expect("the shim reads");
        fifo.write_all(b"hello\n").expect("the shim reads");
        assert_eq!(next(&watching, "container.active", &mut active).text("/cause"), "input");
        next(&watching, "container.idle", &mut idle);

        thread::sleep(2 * AFTER);
        let count = |kind| watching.count(|told| told.kind() == kind);
        assert_eq!((count("container.idle"), count("container.active")), (idle, active));
        remove(&containerd, "c");
        let close = watching.wait_close("c");
        assert_eq!(close.number("/lost").unwrap_or_default(), 0, "{close:?}");
        if close.number("/seen").is_some() {
            assert_eq!(close.at("/seen"), close.at("/delivered"), "{close:?}");
        }
        drop(watching);
        containerd.assert_nothing_left_but_fifos();
    }
}
