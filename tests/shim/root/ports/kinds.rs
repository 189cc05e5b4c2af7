//! All ways to start and to stop listening.

use nix::sys::signal::Signal;

use super::{listed, listener, mount, number, of, owners, remove, wait};
use crate::harness::containerd::{Containerd, Version};

/// Check that 2000 accepted connections on one listener are one opening and one closing.
#[test]
fn connections_are_not_ports() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd
        .run("c", &["--rm", "--mount", &mount()], &["/ports", "accept", "2000", "700"])
        .run()
        .success();
    subscriber.wait_close("c");
    let all = subscriber.all();
    let (opened, closed) = (of(&all, "port.open", "c"), of(&all, "port.close", "c"));
    assert_eq!((opened.len(), closed.len()), (1, 1), "{opened:?} {closed:?}");
    assert_eq!((number(opened[0]), number(closed[0])), (700, 700));
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a port with several sockets opens with the first and closes with the last.
#[test]
fn several_sockets_on_a_port_are_one_port() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd
        .run("c", &["--rm", "--mount", &mount()], &["/ports", "reuse", "8", "700"])
        .run()
        .success();
    let account = subscriber.wait_close("c");
    let all = subscriber.all();
    assert_eq!((of(&all, "port.open", "c").len(), of(&all, "port.close", "c").len()), (1, 1));
    assert_eq!(account.at("/seen"), account.at("/delivered"), "{account:?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a listener without bind(2) is reported with the port that the kernel chose.
#[test]
fn a_listener_without_bind_has_its_real_port() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &[], &["unbound"]);
    let open = subscriber.wait(super::SOON, "the port", |event| event.kind() == "port.open");
    let port = number(&open);
    assert!(port > 0 && open.text("/grade") == "late", "{open:?}");
    assert_eq!(listed(&containerd, "c").iter().map(number).collect::<Vec<_>>(), [port]);
    remove(&containerd, "c");
    wait(&subscriber, "port.close", "c", port);
    let account = subscriber.wait_close("c");
    assert_eq!(account.at("/seen"), account.at("/delivered"), "{account:?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that shutdown(2) of a listener closes its port although the descriptor stays open.
#[test]
fn a_listener_that_is_shut_down_is_closed() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &[], &["shutdown", "700"]);
    wait(&subscriber, "port.open", "c", 700);
    wait(&subscriber, "port.close", "c", 700);
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    assert_eq!(listed(&containerd, "c").len(), 0);
    remove(&containerd, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a listener that was passed to another process stays open with that process as its
/// owner, and is reported as closed when that process is killed.
#[test]
fn a_listener_that_was_passed_belongs_to_its_holder() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    listener(&containerd, "c", &[], &["pass", "700"]);
    let open = wait(&subscriber, "port.open", "c", 700);
    let child = subscriber.wait(super::SOON, "the child", |event| event.kind() == "process.fork");
    let child = child.number("/process/pid").expect("a pid");
    assert_ne!(owners(&open), [child]);
    crate::harness::deadline::until("the child to be the only owner", || {
        listed(&containerd, "c").first().is_some_and(|port| owners(port) == [child])
    });
    assert!(of(&subscriber.all(), "port.close", "c").is_empty(), "it is open");
    crate::harness::Process::new(child).signal(Signal::SIGKILL);
    wait(&subscriber, "port.close", "c", 700);
    remove(&containerd, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a listener that a child inherited has both processes as owners, stays open when one
/// of them ends, and is reported as closed when the last is killed.
#[test]
fn a_listener_that_was_inherited_is_closed_with_its_last_owner() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &["--mount", &mount()], &["sleep", "1000"]);
    containerd
        .program(&["task", "exec", "--exec-id", "e", "--detach", "c", "/ports", "inherit", "700"])
        .run()
        .success();
    wait(&subscriber, "port.open", "c", 700);
    let child = subscriber.wait(super::SOON, "the child", |event| {
        event.kind() == "process.fork" && event.text("/containerd/exec_id") == "e"
    });
    subscriber.wait(super::SOON, "the parent's exit", |event| {
        event.kind() == "process.exit" && event.text("/origin") == "exec"
    });
    let port = listed(&containerd, "c").remove(0);
    let child = child.number("/process/pid").expect("a pid");
    assert_eq!((owners(&port), port.text("/owners/0/exec_id")), (vec![child], "e"), "{port:?}");
    assert!(of(&subscriber.all(), "port.close", "c").is_empty(), "it is open");
    crate::harness::Process::new(child).signal(Signal::SIGKILL);
    wait(&subscriber, "port.close", "c", 700);
    remove(&containerd, "c");
    drop(subscriber);
    containerd.assert_nothing_left_but_fifos();
}
