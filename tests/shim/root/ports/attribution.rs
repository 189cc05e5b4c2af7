//! Each port is attributed to its own container only.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use super::{listed, listener, mount, number, of, owners, remove, wait};
use crate::harness::{
    Process,
    containerd::{Containerd, Program, Version},
};

const GROUP: &str = "io.containerd.runc.v2.group";

/// Check that two containers in separate network namespaces can each have a port with the same
/// number.
#[test]
fn two_containers_with_the_same_port_have_one_each() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    for id in ["a", "b"] {
        listener(&containerd, id, &[], &["hold", "0.0.0.0", "80"]);
        wait(&subscriber, "port.open", id, 80);
    }
    remove(&containerd, "a");
    wait(&subscriber, "port.close", "a", 80);
    assert_eq!(of(&subscriber.all(), "port.close", "b").len(), 0);
    assert_eq!(listed(&containerd, "b").iter().map(number).collect::<Vec<_>>(), [80]);
    remove(&containerd, "b");
    wait(&subscriber, "port.close", "b", 80);
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a container on the host's network has the ports on which it listens, and no ports of
/// the host's processes.
#[test]
fn a_container_on_the_hosts_network_has_its_own_ports_only() {
    let containerd = Containerd::start(Version::V1_7);
    let before = TcpListener::bind("127.0.0.1:0").expect("the host has ports");
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &["--net-host"], &["hold", "127.0.0.1", "0"]);
    let open = subscriber.wait(super::SOON, "the port", |event| event.kind() == "port.open");
    let beside = TcpListener::bind("127.0.0.1:0").expect("the host has ports");
    drop(beside);
    assert_eq!(listed(&containerd, "c").iter().map(number).collect::<Vec<_>>(), [number(&open)]);
    remove(&containerd, "c");
    wait(&subscriber, "port.close", "c", number(&open));
    subscriber.wait_close("c");
    assert_eq!(subscriber.count(|event| event.kind().starts_with("port.")), 2);
    drop((subscriber, before));
    containerd.assert_nothing_left();
}

/// Check that a listener is reported as closed, with its owner, when that owner is killed.
#[test]
fn a_killed_owners_port_is_closed() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &["--mount", &mount()], &["sleep", "1000"]);
    containerd
        .program(&[
            "task",
            "exec",
            "--exec-id",
            "e",
            "--detach",
            "c",
            "/ports",
            "hold",
            "::1",
            "700",
        ])
        .run()
        .success();
    let open = wait(&subscriber, "port.open", "c", 700);
    let [owner] = owners(&open)[..] else { panic!("{open:?}") };
    Process::new(owner).signal(Signal::SIGKILL);
    let close = wait(&subscriber, "port.close", "c", 700);
    assert_eq!(
        (close.at("/owners"), close.text("/owners/0/exec_id")),
        (open.at("/owners"), "e"),
        "{close:?}"
    );
    assert_eq!(close.text("/grade"), "exact", "{close:?}");
    remove(&containerd, "c");
    drop(subscriber);
    containerd.assert_nothing_left_but_fifos();
}

/// Check that a listener that was opened from outside, in a network namespace that is older than
/// its container, is reported; that ports of a namespace are still reported after its name is
/// removed; and that the container's own ports are reported as well.
#[test]
fn ports_of_a_deleted_namespace_are_reported_until_its_end() {
    let containerd = Containerd::start(Version::V1_7);
    let network = Network::new("gone");
    let mut outside = network.listen(8000);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &["--with-ns", &network.flag()], &["hold", "127.0.0.1", "700"]);
    wait(&subscriber, "port.open", "c", 700);
    let old = wait(&subscriber, "port.open", "c", 8000);
    assert_eq!((old.text("/grade"), owners(&old).len()), ("snapshot", 0), "{old:?}");
    network.delete();
    outside.kill().and_then(|()| outside.wait()).expect("our own child");
    wait(&subscriber, "port.close", "c", 8000);
    remove(&containerd, "c");
    wait(&subscriber, "port.close", "c", 700);
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that eight sandboxes at once each report their own ports only; two of them share a network
/// namespace, and two containers share a pod.
#[test]
fn eight_sandboxes_keep_their_ports_apart() {
    let containerd = Containerd::start(Version::V1_7);
    let network = Network::new("shared");
    let subscriber = containerd.subscribe();
    let group = format!("{GROUP}=pod");
    for n in 0..8 {
        let id = format!("s{n}");
        let flag = network.flag();
        let flags = match n {
            0 | 1 => vec!["--with-ns", &flag],
            2 | 3 => vec!["--annotation", &group],
            _ => vec![],
        };
        let port = (if n < 2 { 700 + n } else { 80 }).to_string();
        listener(&containerd, &id, &flags, &["hold", "127.0.0.1", &port]);
    }
    for n in 0..8 {
        let port = if n < 2 { 700 + n } else { 80 };
        wait(&subscriber, "port.open", &format!("s{n}"), port);
        let open = listed(&containerd, &format!("s{n}"));
        let shown: Vec<_> =
            open.iter().map(|port| (number(port), port.text("/owners/0/container_id"))).collect();
        assert_eq!(shown, [(port, format!("s{n}").as_str())]);
    }
    for n in 0..8 {
        remove(&containerd, &format!("s{n}"));
        subscriber.wait_close(&format!("s{n}"));
    }
    let all = subscriber.all();
    for n in 0..8 {
        let id = format!("s{n}");
        assert_eq!(
            (of(&all, "port.open", &id).len(), of(&all, "port.close", &id).len()),
            (1, 1),
            "{id}"
        );
    }
    network.delete();
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// A named network namespace with a loopback interface.
struct Network {
    name: String,
}

impl Network {
    fn new(name: &str) -> Self {
        let name = format!("lookout-{}-{name}", std::process::id());
        let network = Self { name };
        network.ip(&["netns", "add", &network.name]);
        network.ip(&["-n", &network.name, "link", "set", "lo", "up"]);
        network
    }

    fn ip(&self, arguments: &[&str]) {
        let mut command = std::process::Command::new("ip");
        command.args(arguments);
        Program::new(command).run().success();
    }

    fn flag(&self) -> String {
        format!("network:/run/netns/{}", self.name)
    }

    /// Starts a process of the host that listens in this namespace. It listens when this returns.
    fn listen(&self, port: u16) -> std::process::Child {
        use std::io::BufRead as _;
        let mut command = std::process::Command::new("ip");
        let program = crate::harness::tools::tool("storm/bin/ports");
        command.args(["netns", "exec", &self.name]).arg(program).args([
            "hold",
            "127.0.0.1",
            &port.to_string(),
        ]);
        let mut child =
            command.stdout(std::process::Stdio::piped()).spawn().expect("ip of iproute2");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("it listens");
        child
    }

    /// Removes the name. The namespace exists until its last process ends.
    fn delete(&self) {
        self.ip(&["netns", "del", &self.name]);
    }
}
