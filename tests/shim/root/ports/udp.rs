//! UDP sockets that are bound and released.

use super::{
    super::watch::sources::lock_connector, SOON, listed, listener, mount, number, owners, remove,
    wait,
};
use crate::harness::{
    containerd::{Containerd, ObservedEvent, Version},
    deadline,
};

/// Check that UDP clients that never call bind(2) are not ports.
#[test]
fn clients_are_not_ports() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &["--mount", &mount()], &["sleep", "1000"]);
    let exec = ["task", "exec", "--exec-id", "e", "c", "/ports", "clients", "50"];
    let printed = containerd.program(&exec).run().success().stdout_text();
    let chosen = |line: &str| line.trim().parse::<u16>().is_ok_and(|port| port > 0);
    assert_eq!(printed.lines().filter(|line| chosen(line)).count(), 50, "{printed}");
    remove(&containerd, "c");
    subscriber.wait_close("c");
    assert_eq!(subscriber.count(|event| event.kind().starts_with("port.")), 0);
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a TCP and a UDP socket with the same number are two ports, each listed once with its
/// owners, and that closing one does not close the other.
#[test]
fn tcp_and_udp_of_one_number_are_two_ports() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &[], &["udp", "0.0.0.0", "53"]);
    assert_eq!(wait(&subscriber, "port.open", "c", 53).text("/network/transport"), "udp");
    let exec =
        ["task", "exec", "--exec-id", "e", "--detach", "c", "/ports", "hold", "0.0.0.0", "53"];
    containerd.program(&exec).run().success();
    let is_tcp = |event: &ObservedEvent| event.text("/network/transport") == "tcp";
    let open =
        subscriber.wait(SOON, "the listener", |event| event.kind() == "port.open" && is_tcp(event));
    let [holder] = owners(&open)[..] else { panic!("{open:?}") };
    let ports = listed(&containerd, "c");
    let init = u64::from(containerd.pid("c").unsigned_abs());
    let [tcp, udp] = ports.as_slice() else { panic!("{ports:?}") };
    assert_eq!((owners(tcp), owners(udp)), (vec![holder], vec![init]), "{ports:?}");
    assert!(is_tcp(tcp) && !is_tcp(udp), "{ports:?}");
    crate::harness::Process::new(holder).signal(nix::sys::signal::Signal::SIGKILL);
    let close = wait(&subscriber, "port.close", "c", 53);
    assert!(is_tcp(&close), "{close:?}");
    assert_eq!(
        listed(&containerd, "c")
            .iter()
            .map(|port| port.text("/network/transport"))
            .collect::<Vec<_>>(),
        ["udp"]
    );
    remove(&containerd, "c");
    subscriber
        .wait(SOON, "the UDP port's end", |event| event.kind() == "port.close" && !is_tcp(event));
    drop(subscriber);
    containerd.assert_nothing_left_but_fifos();
}

/// Check that without eBPF a bound UDP socket is listed with its owner, but not reported as an
/// event.
#[test]
fn without_bpf_udp_is_listed() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"poll\"\n");
    let _connector = lock_connector(&containerd);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &[], &["udp", "0.0.0.0", "53"]);
    // Its owner is known after `/proc` was scanned.
    let init = u64::from(containerd.pid("c").unsigned_abs());
    let is_listed = || listed(&containerd, "c").first().is_some_and(|port| owners(port) == [init]);
    deadline::until("the port to be listed with its owner", is_listed);
    let port = listed(&containerd, "c").remove(0);
    assert_eq!((port.text("/network/transport"), number(&port)), ("udp", 53), "{port:?}");
    assert_eq!(subscriber.count(|event| event.kind().starts_with("port.")), 0);
    remove(&containerd, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}
