//! When a shim exits, and when it does not.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Node, deadline, delete};

/// The longest time until a shim without containers exits.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Check that Shutdown is answered, and that the process and the socket are gone a second later.
#[test]
fn shutdown_ends_the_shim_and_removes_its_socket() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let _daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.remove("web");
    shim.shutdown("web").unwrap();
    shim.wait_for_exit(AT_ONCE);
    assert_eq!(node.sockets(), Vec::<String>::new());
    node.wait_until_empty();
}

/// Check that Shutdown ends a shim that never had a container.
#[test]
fn shutdown_ends_an_unused_shim() {
    let node = Node::new();
    let shim = node.shim(&node.bundle("web"));
    shim.shutdown("web").unwrap();
    shim.wait_for_exit(AT_ONCE);
}

/// Check that Shutdown is ignored while a container exists, whatever its state.
#[test]
fn shutdown_is_ignored_while_a_container_is_left() {
    let node = Node::new();
    let _daemon = node.daemon();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 0");
    shim.create(&bundle.create()).unwrap();
    shim.shutdown("web").unwrap();
    shim.start("web", "").unwrap();
    shim.shutdown("web").unwrap();
    shim.wait("web", "").unwrap();
    shim.shutdown("web").unwrap();
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 0);
    assert!(shim.process.lives());
    shim.shut_down();
}

/// Check that a shim exits only after containerd has acknowledged all events.
#[test]
fn a_shim_that_leaves_delivers_its_events_first() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    daemon.wait_for("start web");
    daemon.stop_listening();
    shim.remove("web");
    shim.shutdown("web").unwrap();
    deadline::until("the end of the socket", || node.sockets().is_empty());
    daemon.listen_again();
    daemon.wait_for("delete web 137");
    shim.wait_for_exit(AT_ONCE);
}

/// Check that SIGTERM and SIGINT end a shim and remove its socket, and that its container is left
/// to `delete`.
#[test]
fn a_terminated_shim_leaves_its_container_to_delete() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let _daemon = node.daemon();
        let shim = node.shim(&bundle);
        let init = shim.run(&bundle);
        shim.process.signal(signal);
        shim.wait_for_exit(AT_ONCE);
        assert_eq!(node.sockets(), Vec::<String>::new());
        assert!(init.lives());
        assert_eq!(delete(&node, &bundle).response.pid, init.pid.unsigned_abs());
        node.wait_until_empty();
    }
}

/// Check that other common signals do not end a shim.
#[test]
fn a_shim_survives_other_signals() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    for signal in [Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGCHLD] {
        shim.process.signal(signal);
        assert!(shim.state("web", "").is_ok(), "{signal}");
    }
    shim.remove("web");
}
