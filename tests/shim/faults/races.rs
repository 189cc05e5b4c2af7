//! Requests that race with each other or with an exit.

use crate::harness::{Node, deadline};

/// Check that when Delete and Shutdown race, the delete is reported, and the shim either exits or
/// still serves (containerd#13052).
#[test]
fn delete_and_shutdown_may_cross() {
    let node = Node::new();
    let daemon = node.daemon();
    for round in 0..30 {
        let bundle = node.bundle(&format!("c{round}"));
        let shim = node.shim(&bundle);
        let id = bundle.id.clone();
        node.runtime().payload(&id, "exit 0");
        shim.run(&bundle);
        shim.wait(&id, "").unwrap();
        let other = shim.reconnect();
        let shutdown = other.in_background(|task| task.shutdown(""));
        assert_eq!(shim.delete(&id, "").unwrap().exit_status, 0);
        shutdown.join().unwrap().unwrap();
        // Shutdown was ignored if it came before the delete.
        let _ = shim.shutdown("");
        shim.wait_for_exit(deadline::PATIENCE);
        daemon.wait_for(&format!("delete {id} 0"));
    }
    assert_eq!(daemon.event_lines().len(), 30 * 4);
    assert_eq!(node.sockets(), Vec::<String>::new());
}

/// Check that both requests are answered when a kill races with an exit.
#[test]
fn kill_and_exit_may_cross() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    for round in 0..20 {
        node.runtime().payload("web", &format!("exec sleep 0.00{}", round % 10));
        shim.run(&bundle);
        match shim.kill("web", "", 9) {
            Ok(_) => {}
            Err(failure) => assert_eq!(failure.message, "process already finished: not found"),
        }
        assert!([0, 137].contains(&shim.wait("web", "").unwrap().exit_status));
        shim.delete("web", "").unwrap();
    }
}

/// Check that concurrent deletes of one container by many clients are one delete.
#[test]
fn many_deletes_are_one() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle).kill();
    shim.wait("web", "").unwrap();
    let hold = node.runtime().hold("delete");
    let deletes: Vec<_> =
        (0..10).map(|_| shim.in_background(|task| task.delete("web", ""))).collect();
    hold.wait_until_reached();
    // This request is behind all ten on the same connection, so its answer shows that they arrived.
    shim.state("web", "").unwrap();
    hold.release();
    let answers: Vec<_> = deletes.into_iter().map(|delete| delete.join().unwrap()).collect();
    for answer in answers {
        match answer {
            Ok(deleted) => assert_eq!(deleted.exit_status, 137),
            // The request came after the delete had finished.
            Err(failure) => assert_eq!(failure.message, "container not created: not found"),
        }
    }
    daemon.wait_for("delete web 137");
    assert_eq!(node.runtime().calls("delete").len(), 1);
    assert_eq!(daemon.event_lines().len(), 4);
}

/// Check that a failed delete can be repeated (containerd#7496).
#[test]
fn a_delete_that_fails_can_be_tried_again() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle).kill();
    shim.wait("web", "").unwrap();
    node.runtime().before("delete", "fail 'device or resource busy'");
    assert_eq!(
        shim.delete("web", "").unwrap_err().message,
        "failed to delete task: device or resource busy"
    );
    assert_eq!(shim.state("web", "").unwrap().exit_status, 137);
    node.runtime().reset("delete");
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    shim.shut_down();
    assert_eq!(
        daemon.event_lines(),
        ["create web", "start web", "exit web web 137", "delete web 137"]
    );
}

/// Check that a container that the runtime no longer knows can still be deleted.
#[test]
fn a_container_that_the_runtime_forgot_is_deleted() {
    for by_text in [false, true] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let shim = node.shim(&bundle);
        shim.run(&bundle).kill();
        shim.wait("web", "").unwrap();
        if by_text {
            node.runtime().before("delete", "fail 'container does not exist'");
        } else {
            std::fs::remove_dir_all(node.runtime_root().join("test/web")).unwrap();
        }
        shim.delete("web", "").unwrap();
    }
}
