//! Wait, for any time and for any number of clients.

use std::time::Duration;

use crate::harness::{Node, deadline};

/// Check that a hundred waiters are all answered.
#[test]
fn a_hundred_waiters_are_all_answered() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let waiters: Vec<_> =
        (0..100).map(|_| shim.in_background(|task| task.wait("web", ""))).collect();
    // This request is behind the waiters on the same connection, so its answer shows that they
    // wait.
    shim.state("web", "").unwrap();
    init.kill();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap().unwrap().exit_status, 137);
    }
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
}

/// Check that a waiter that disconnects affects neither the container nor other waiters.
#[test]
fn a_waiter_may_disconnect() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let stays = shim.in_background(|task| task.wait("web", ""));
    for _ in 0..20 {
        let leaves = shim.reconnect().with_deadline(Duration::from_millis(1));
        assert!(leaves.wait("web", "").unwrap_err().is_late());
    }
    assert!(init.lives());
    assert!(!stays.is_finished());
    init.kill();
    assert_eq!(stays.join().unwrap().unwrap().exit_status, 137);
}

/// Check that a create continues after its client has disconnected: containerd will ask again, or
/// delete.
#[test]
fn a_create_survives_its_clients_disconnect() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let hold = node.runtime().hold("create");
    let client = shim.reconnect().with_deadline(Duration::from_millis(300));
    let request = bundle.create();
    let call = std::thread::spawn(move || client.create(&request));
    hold.wait_until_reached();
    assert!(call.join().unwrap().unwrap_err().is_late());
    hold.release();
    deadline::until("the container", || shim.state("web", "").is_ok());
    shim.start("web", "").unwrap();
    shim.remove("web");
}

/// Check that a wait for an exec that was never started ends when the exec or its container is
/// deleted.
#[test]
fn a_wait_for_an_exec_that_never_runs_ends() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    let waiter = shim.in_background(|task| task.wait("web", "probe"));
    deadline::until("the state", || shim.state("web", "probe").is_ok());
    shim.delete("web", "probe").unwrap();
    let _either = waiter.join().unwrap();
    shim.exec("web", "probe").unwrap();
    let waiter = shim.in_background(|task| task.wait("web", "probe"));
    deadline::until("the state", || shim.state("web", "probe").is_ok());
    shim.remove("web");
    let _either = waiter.join().unwrap();
}
