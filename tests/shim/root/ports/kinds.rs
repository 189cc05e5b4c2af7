//! Every way to listen, and to cease to.

use nix::sys::signal::Signal;

use super::{listed, listener, mount, number, of, owners, remove, wait};
use crate::harness::containerd::{Containerd, Version};

/// Check that 2000 accepted connections on one listener are one opening and one closing.
#[test]
fn connections_are_not_ports() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    containerd
        .run("c", &["--rm", "--mount", &mount()], &["/ports", "accept", "2000", "700"])
        .run()
        .success();
    watching.wait_close("c");
    let told = watching.all();
    let (opened, closed) = (of(&told, "port.open", "c"), of(&told, "port.close", "c"));
    assert_eq!((opened.len(), closed.len()), (1, 1), "{opened:?} {closed:?}");
    assert_eq!((number(opened[0]), number(closed[0])), (700, 700));
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that a port with several sockets opens with the first and closes with the last.
#[test]
fn several_sockets_on_a_port_are_one_port() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    containerd
        .run("c", &["--rm", "--mount", &mount()], &["/ports", "reuse", "8", "700"])
        .run()
        .success();
    let account = watching.wait_close("c");
    let told = watching.all();
    assert_eq!((of(&told, "port.open", "c").len(), of(&told, "port.close", "c").len()), (1, 1));
    assert_eq!(account.at("/seen"), account.at("/delivered"), "{account:?}");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that a listener without bind(2) is told with the port that the kernel chose.
#[test]
fn a_listener_without_bind_has_its_real_port() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    listener(&containerd, "c", &[], &["unbound"]);
    let open = watching.wait(super::SOON, "the port", |told| told.kind() == "port.open");
    let port = number(&open);
    assert!(port > 0 && open.text("/grade") == "late", "{open:?}");
    assert_eq!(listed(&containerd, "c").iter().map(number).collect::<Vec<_>>(), [port]);
    remove(&containerd, "c");
    wait(&watching, "port.close", "c", port);
    let account = watching.wait_close("c");
    assert_eq!(account.at("/seen"), account.at("/delivered"), "{account:?}");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that shutdown(2) of a listener closes its port though the descriptor stays.
#[test]
fn a_listener_that_is_shut_down_is_closed() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    listener(&containerd, "c", &[], &["shutdown", "700"]);
    wait(&watching, "port.open", "c", 700);
    wait(&watching, "port.close", "c", 700);
    assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
    assert_eq!(listed(&containerd, "c").len(), 0);
    remove(&containerd, "c");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that a listener that was handed to another process stays open, with that process as its
/// owner, and is told as closed when that one is killed.
#[test]
fn a_listener_that_was_passed_belongs_to_whoever_holds_it() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    listener(&containerd, "c", &[], &["pass", "700"]);
    let open = wait(&watching, "port.open", "c", 700);
    let child = watching.wait(super::SOON, "the child", |told| told.kind() == "process.fork");
    let child = child.number("/process/pid").expect("a pid");
    assert_ne!(owners(&open), [child]);
    crate::harness::deadline::until("the child to be the only owner", || {
        listed(&containerd, "c").first().is_some_and(|port| owners(port) == [child])
    });
    assert!(of(&watching.all(), "port.close", "c").is_empty(), "it is open");
    crate::harness::Process::new(child).signal(Signal::SIGKILL);
    wait(&watching, "port.close", "c", 700);
    remove(&containerd, "c");
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that a listener that a child inherited has both as owners, that the end of one does not
/// close it, and that the kill of the last is told as a close.
#[test]
fn a_listener_that_was_inherited_is_closed_with_its_last_owner() {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    containerd.detached("c", &["--mount", &mount()], &["sleep", "1000"]);
    containerd
        .program(&["task", "exec", "--exec-id", "e", "--detach", "c", "/ports", "inherit", "700"])
        .run()
        .success();
    wait(&watching, "port.open", "c", 700);
    let child = watching.wait(super::SOON, "the child", |told| {
        told.kind() == "process.fork" && told.text("/containerd/exec_id") == "e"
    });
    watching.wait(super::SOON, "the parent's exit", |told| {
        told.kind() == "process.exit" && told.text("/origin") == "exec"
    });
    let port = listed(&containerd, "c").remove(0);
    let child = child.number("/process/pid").expect("a pid");
    assert_eq!((owners(&port), port.text("/owners/0/exec_id")), (vec![child], "e"), "{port:?}");
    assert!(of(&watching.all(), "port.close", "c").is_empty(), "it is open");
    crate::harness::Process::new(child).signal(Signal::SIGKILL);
    wait(&watching, "port.close", "c", 700);
    remove(&containerd, "c");
    drop(watching);
    containerd.assert_nothing_left_but_fifos();
}
