//! Listeners that are closed before a scan could find them.

use std::{collections::BTreeSet, fs};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{super::mount_of_our_folder, SOON, address, listed, mount, number, of, remove, wait};
use crate::harness::{
    containerd::{Containerd, ObservedEvent, Version},
    deadline,
};

/// How many listeners a test opens.
const COUNT: usize = 300;

/// Check that 300 listeners that live for 5 ms each, v4 and v6, loopback and wildcard, every tenth
/// on a port that the kernel chose, are each reported as opened and as closed, with port, address,
/// scope and owner, and that the container's account has no loss.
#[test]
fn three_hundred_short_listeners_are_reported_completely() {
    are_reported_completely("tcp");
}

/// Check the same for bound UDP sockets.
#[test]
fn three_hundred_short_udp_sockets_are_reported_completely() {
    are_reported_completely("udp");
}

fn are_reported_completely(transport: &str) {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let mount = mount();
    containerd.detached("c", &["--mount", &mount], &["sleep", "1000"]);
    let program = ["/ports", "short", &COUNT.to_string(), "5000", "20000", transport];
    let exec = ["task", "exec", "--exec-id", "e", "c"];
    let printed = containerd.program(&[&exec[..], &program].concat()).run().success().stdout_text();
    subscriber.wait(SOON, "the end of the listeners", |event| {
        event.kind() == "process.exit" && event.text("/containerd/exec_id") == "e"
    });
    let all = subscriber.all();
    let (opened, closed) = (of(&all, "port.open", "c"), of(&all, "port.close", "c"));
    assert_eq!((opened.len(), closed.len()), (COUNT, COUNT));
    let runner = subscriber.wait_run(&program);
    let expected: Vec<Vec<&str>> =
        printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(expected.len(), COUNT);
    for ((open, close), words) in opened.iter().zip(&closed).zip(&expected) {
        for event in [open, close] {
            assert_eq!(
                (address(event), number(event).to_string().as_str()),
                (words[1], words[2]),
                "{event:?}"
            );
            check(event, &runner, words[1], transport);
        }
        let before = words[3].parse().ok();
        let (opened, closed) = (open.number("/monotonic_ns"), close.number("/monotonic_ns"));
        assert!(
            before.is_some() && before < opened && opened < closed,
            "{before:?} {open:?} {close:?}"
        );
    }
    remove(&containerd, "c");
    let close = subscriber.wait_close("c");
    assert_eq!(
        (close.at("/seen"), close.number("/lost")),
        (close.at("/delivered"), Some(0)),
        "{close:?}"
    );
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Asserts that the fields which follow from the address are right, and that the owner is the
/// program of the exec.
#[track_caller]
fn check(event: &ObservedEvent, runner: &ObservedEvent, address: &str, transport: &str) {
    let scope = if ["0.0.0.0", "::"].contains(&address) { "wildcard" } else { "loopback" };
    assert_eq!((event.text("/grade"), event.text("/source")), ("exact", "bpf"), "{event:?}");
    assert_eq!(event.text("/network/transport"), transport, "{event:?}");
    assert_eq!(
        event.text("/network/type"),
        if address.contains(':') { "ipv6" } else { "ipv4" },
        "{event:?}"
    );
    assert_eq!(event.text("/port/scope"), scope, "{event:?}");
    assert_eq!(
        event.at("/port/dual_stack").as_bool().unwrap_or_default(),
        address == "::",
        "{event:?}"
    );
    let [owner] = event.at("/owners").as_array().expect("owners").as_slice() else {
        panic!("{event:?}")
    };
    assert_eq!(&owner["entity_id"], runner.at("/process/entity_id"), "{event:?}");
    assert_eq!(&owner["pid"], runner.at("/process/pid"), "{event:?}");
    assert_eq!(&owner["vpid"], runner.at("/process/vpid"), "{event:?}");
    assert_eq!(
        (&owner["executable"]["path"], &owner["exec_id"]),
        (&"/ports".into(), &"e".into()),
        "{event:?}"
    );
    assert_eq!(owner["container_id"], "c", "{event:?}");
}

/// Check that where listeners overrun the ring, the loss is counted and reported, that openings and
/// closings of each port still alternate, and that in the end exactly the open ports are reported
/// as open.
#[test]
fn a_loss_is_reported_and_resynced() {
    loss_is_reported_and_resynced("tcp");
}

/// Check the same for UDP sockets. A connected one is still open at the end.
#[test]
fn a_loss_of_udp_is_reported_and_resynced() {
    loss_is_reported_and_resynced("udp");
}

fn loss_is_reported_and_resynced(transport: &str) {
    let mut containerd = Containerd::start(Version::V1_7);
    fs::write(containerd.path("lookout.toml"), "ring_size = \"4KiB\"\n")
        .expect("our directory is writable");
    containerd.kill_9();
    containerd.restart();
    let subscriber = containerd.subscribe();
    let mount = mount();
    let go = containerd.path("go");
    mkfifo(&go, Mode::S_IRWXU).expect("our directory is writable");
    let directory = mount_of_our_folder(&containerd);
    let script = "/ports udp 127.0.0.1 701 connected & \
                  read line </host/go; /ports short 5000 0 10000 $0 >/dev/null; \
                  exec /ports hold :: 700";
    containerd.detached(
        "c",
        &["--mount", &mount, "--mount", &directory],
        &["sh", "-c", script, transport],
    );
    wait(&subscriber, "port.open", "c", 701);
    let (shim, init) = (containerd.shim("c"), containerd.pid("c"));
    // The shim does not read the ring meanwhile.
    shim.signal(Signal::SIGSTOP);
    fs::write(&go, "go\n").expect("the container reads");
    let listens = || {
        fs::read_to_string(format!("/proc/{init}/net/tcp6"))
            .is_ok_and(|list| list.contains(":02BC "))
    };
    deadline::until("the last one to listen", listens);
    shim.signal(Signal::SIGCONT);
    wait(&subscriber, "port.open", "c", 700);
    subscriber.wait(SOON, "a gap", |event| {
        event.kind() == "observer.gap" && event.text("/stage") == "kernel"
    });
    deadline::until("what is listed to be what is open", || {
        listed(&containerd, "c").iter().map(number).collect::<Vec<_>>() == [700, 701]
    });
    assert_eq!(subscriber.count(|event| event.kind() == "port.close" && number(event) == 701), 0);
    remove(&containerd, "c");
    let close = subscriber.wait_close("c");
    let (seen, delivered) =
        (close.number("/seen").expect("counted"), close.number("/delivered").expect("known"));
    let lost = close.number("/lost").expect("counted");
    assert!(lost > 0 && seen == delivered + lost, "{close:?}");
    let mut open = BTreeSet::new();
    for event in subscriber.all().iter().filter(|event| event.kind().starts_with("port.")) {
        let key =
            (event.text("/network/transport").to_owned(), address(event).to_owned(), number(event));
        let is_news =
            if event.kind() == "port.open" { open.insert(key) } else { open.remove(&key) };
        assert!(is_news, "{event:?}");
    }
    assert!(open.is_empty(), "{open:?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}
