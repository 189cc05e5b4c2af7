//! The `delete` verb. containerd runs it after each delete of a task and after each death of a
//! shim.

use std::fs;

use crate::harness::{Node, deadline, delete};

/// Check that where nothing is left, `delete` does nothing and runs no runtime.
#[test]
fn delete_of_nothing_runs_no_runtime() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let deleted = delete(&node, &bundle);
    assert_eq!((deleted.response.pid, deleted.response.exit_status), (0, 137));
    assert!(deleted.response.exited_at.seconds > 0);
    assert_eq!(deleted.stderr, "");
    assert_eq!(node.runtime().all_calls(), []);
}

/// Check that a missing bundle is not an error.
#[test]
fn delete_without_a_bundle_succeeds() {
    let node = Node::new();
    let bundle = node.bundle("web");
    fs::remove_dir_all(&bundle.path).unwrap();
    assert_eq!(delete(&node, &bundle).response.exit_status, 137);
}

/// Check that `delete` succeeds in spite of invalid files in the bundle.
#[test]
fn delete_survives_garbage_in_the_bundle() {
    let node = Node::new();
    let bundle = node.bundle("web");
    for file in ["options.json", "exit.json", "init.pid", "address", "runtime"] {
        fs::write(bundle.path.join(file), [0xff, 0, b'{', b'\n']).unwrap();
    }
    assert_eq!(delete(&node, &bundle).response.exit_status, 137);
}

/// Check that `delete` reports the true status of an init that ended before its shim was killed.
#[test]
fn delete_reports_the_status_that_the_shim_recorded() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 42");
    let init = shim.run(&bundle);
    let exit = shim.wait("web", "").unwrap();
    shim.process.kill();
    shim.wait_for_exit(deadline::PATIENCE);
    let response = delete(&node, &bundle).response;
    assert_eq!((response.pid, response.exit_status), (init.pid.unsigned_abs(), 42));
    assert_eq!(response.exited_at, exit.exited_at);
}

/// Check that after a shim was killed, `delete` kills its container, removes the runtime's state
/// and the socket, and answers with init's pid (containerd#6402).
#[test]
fn delete_cleans_up_after_a_killed_shim() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    shim.process.kill();
    shim.wait_for_exit(deadline::PATIENCE);
    assert!(init.lives(), "a dead shim does not take its container along");
    let deleted = delete(&node, &bundle);
    assert_eq!(
        (deleted.response.pid, deleted.response.exit_status),
        (init.pid.unsigned_abs(), 137)
    );
    assert_eq!(deleted.stderr, "");
    assert!(!node.runtime_root().join("test/web").exists());
    assert_eq!(node.sockets(), Vec::<String>::new());
    node.wait_until_empty();
}

/// Check that a pod's shim keeps its socket when one of its containers is deleted.
#[test]
fn delete_leaves_the_socket_of_a_living_shim() {
    let node = Node::new();
    let [first, second] =
        ["one", "two"].map(|id| node.bundle(id).annotated("io.kubernetes.cri.sandbox-id", "pod"));
    let shim = node.shim(&first);
    node.start_verb(&second).run().answer();
    shim.run(&first);
    shim.run(&second);
    shim.remove("two");
    delete(&node, &second);
    assert_eq!(node.sockets().len(), 1);
    assert!(shim.reconnect().state("one", "").is_ok());
}

/// Check that `delete` ends in time although the runtime hangs: containerd's limit is five seconds.
#[test]
fn delete_ends_in_time_while_the_runtime_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.process.kill();
    let hold = node.runtime().hold("delete");
    // The harness has the same limit as containerd.
    let deleted = delete(&node, &bundle);
    assert_eq!(deleted.response.exit_status, 137);
    assert!(deleted.stderr.contains("did not end within"), "{}", deleted.stderr);
    assert!(!hold.wait_until_reached().process().lives());
}
