//! Reporting of idle containers.

use std::{fs, io::Write as _, net::TcpStream, thread, time::Duration};

use super::{super::watch::sources::lock_connector, SOON, listener, number, remove};
use crate::harness::containerd::{Containerd, ObservedEvent, Subscriber, Version};

/// The idle time that every container here configures.
const AFTER: Duration = Duration::from_secs(1);

/// Waits for the next event of this type after the first `before`, and increments `before`.
#[track_caller]
fn next(subscriber: &Subscriber, kind: &str, before: &mut usize) -> ObservedEvent {
    *before += 1;
    let wanted = *before;
    subscriber.wait_for(SOON, kind, |events| {
        events.iter().filter(|event| event.kind() == kind).nth(wanted - 1).cloned()
    })
}

/// Whether `lookout inspect` reports the container as idle.
fn is_idle(containerd: &Containerd) -> bool {
    let page = containerd.lookout(&["inspect", "c", "-o", "json"]).run().success().stdout_text();
    let page: serde_json::Value = serde_json::from_str(&page).expect("an object");
    page["idle"].as_bool().expect("the page has it")
}

/// The stdin fifo of a container, opened for writing.
fn stdin_of(id: &str) -> fs::File {
    let directories = fs::read_dir("/run/containerd/fifo").expect("made by ctr").flatten();
    let fifo = directories
        .map(|directory| directory.path().join(format!("{id}-stdin")))
        .find(|fifo| fifo.exists())
        .expect("made by ctr");
    fs::File::options().write(true).open(fifo).expect("the shim reads")
}

/// Check, with eBPF and without, that a container without activity for the configured time is
/// reported as idle once; and that an exec, a connection and input each make it active, and idle
/// again only after they end.
#[test]
fn a_quiet_container_is_idle_until_something_happens() {
    for source in ["bpf", "connector"] {
        let settings = format!("source = \"{source}\"\n");
        let containerd = Containerd::start_configured(Version::V1_7, &settings);
        let _connector = lock_connector(&containerd);
        let subscriber = containerd.subscribe();
        let flags = ["--net-host", "--annotation", "io.lookout.idle_after=1s"];
        listener(&containerd, "c", &flags, &["hold", "127.0.0.1", "0"]);
        let port = subscriber.wait(SOON, "the port", |event| event.kind() == "port.open");
        let (mut idle, mut active) = (0, 0);
        let event = next(&subscriber, "container.idle", &mut idle);
        let quiet = Duration::from_nanos(event.number("/quiet_ns").expect("an idle event has it"));
        assert!(quiet >= AFTER && quiet < 10 * AFTER, "{quiet:?}");
        assert!(is_idle(&containerd));

        let exec = containerd.exec("c", &[], &["sleep", "3"]).spawn();
        assert_eq!(next(&subscriber, "container.active", &mut active).text("/cause"), "exec");
        assert!(!is_idle(&containerd));
        exec.wait().success();
        let of_exec = |event: &ObservedEvent| {
            event.kind() == "process.exit" && event.text("/origin") == "exec"
        };
        let end = subscriber.wait(SOON, "the exec's exit", of_exec).number("/monotonic_ns");
        assert!(
            next(&subscriber, "container.idle", &mut idle).number("/monotonic_ns") > end,
            "while an exec ran"
        );

        let address = format!("127.0.0.1:{}", number(&port));
        let stream = TcpStream::connect(address).expect("it listens");
        assert_eq!(next(&subscriber, "container.active", &mut active).text("/cause"), "connection");
        thread::sleep(3 * AFTER);
        assert_eq!(
            subscriber.count(|event| event.kind() == "container.idle"),
            idle,
            "while a connection was established"
        );
        drop(stream);
        next(&subscriber, "container.idle", &mut idle);

        let mut fifo = stdin_of("c");
        fifo.write_all(b"hello\n").expect("the shim reads");
        assert_eq!(next(&subscriber, "container.active", &mut active).text("/cause"), "input");
        next(&subscriber, "container.idle", &mut idle);

        thread::sleep(2 * AFTER);
        let count = |kind| subscriber.count(|event| event.kind() == kind);
        assert_eq!((count("container.idle"), count("container.active")), (idle, active));
        remove(&containerd, "c");
        let close = subscriber.wait_close("c");
        assert_eq!(close.number("/lost").unwrap_or_default(), 0, "{close:?}");
        if close.number("/seen").is_some() {
            assert_eq!(close.at("/seen"), close.at("/delivered"), "{close:?}");
        }
        drop(subscriber);
        containerd.assert_nothing_left_but_fifos();
    }
}
