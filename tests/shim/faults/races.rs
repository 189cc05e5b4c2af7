//! Requests that cross each other.

use crate::harness::{Node, deadline};

/// Check that Delete and Shutdown at the same moment end in a delete that is told and a shim that
/// is gone, or is still there to be asked again (containerd#13052).
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
        let shutdown = other.beside(|task| task.shutdown(""));
        assert_eq!(shim.delete(&id, "").unwrap().exit_status, 0);
        shutdown.join().unwrap().unwrap();
        // Ignored if it was first.
        let _ = shim.shutdown("");
        shim.has_left(deadline::PATIENCE);
        daemon.wait_for(&format!("delete {id} 0"));
    }
    assert_eq!(daemon.story().len(), 30 * 4);
    assert_eq!(node.sockets(), Vec::<String>::new());
}

/// Check that a kill and an end at the same moment are both answered.
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

/// Check that deletes of one container from many clients are one delete.
#[test]
fn many_deletes_are_one() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle).kill();
    shim.wait("web", "").unwrap();
    let hold = node.runtime().hold("delete");
    let deletes: Vec<_> = (0..10).map(|_| shim.beside(|task| task.delete("web", ""))).collect();
    hold.reached();
    // Behind all ten on the same connection.
    shim.state("web", "").unwrap();
    hold.release();
    let answers: Vec<_> = deletes.into_iter().map(|delete| delete.join().unwrap()).collect();
    for answer in answers {
        match answer {
            Ok(deleted) => assert_eq!(deleted.exit_status, 137),
            // It came after all was over.
            Err(failure) => assert_eq!(failure.message, "container not created: not found"),
        }
    }
    daemon.wait_for("delete web 137");
    assert_eq!(node.runtime().calls("delete").len(), 1);
    assert_eq!(daemon.story().len(), 4);
}

/// Check that a delete that fails can be tried again (containerd#7496).
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
    node.runtime().behave("delete");
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    shim.shut_down();
    assert_eq!(daemon.story(), ["create web", "start web", "exit web web 137", "delete web 137"]);
}

/// Check that a container that the runtime has forgotten is deleted all the same.
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
