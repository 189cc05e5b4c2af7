//! The `start` verb: its input, its answer, and what it leaves behind.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    thread,
};

use containerd_shim_protos::{bootstrap_api::BootstrapResult, protobuf::Message as _};

use crate::harness::{Node, Shim, deadline};

/// Check that `BootstrapParams` on stdin are answered with a `BootstrapResult`, and that a shim
/// then serves.
#[test]
fn bootstrap_params_are_answered_with_a_result() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let started = node.start_verb(&bundle).run();
    let answer = started.answer();
    assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
    let shim = Shim::connect(&answer, &bundle);
    let init = shim.run(&bundle);
    assert!(init.lives());
    shim.remove("web");
    daemon.wait_for("delete web 137");
    assert_eq!(
        daemon.event_lines(),
        ["create web", "start web", "exit web web 137", "delete web 137"]
    );
    shim.shut_down();
    node.wait_until_empty();
}

/// Check that `start` writes only its answer to stdout and stderr together: containerd reads both
/// as one.
#[test]
fn start_writes_nothing_but_its_answer() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let started = node.start_verb(&bundle).flag("-debug").run();
    let answer = started.answer();
    let expected = BootstrapResult {
        version: 3,
        address: answer.address,
        protocol: "ttrpc".into(),
        ..Default::default()
    };
    assert_eq!(started.combined, expected.write_to_bytes().unwrap());
}

/// Check that the output of `start` ends while the server runs: the server holds no end of it.
#[test]
fn the_output_of_start_ends_before_the_server() {
    let node = Node::new();
    let bundle = node.bundle("web");
    // `run` returns only at the end of the output.
    let answer = node.start_verb(&bundle).run().answer();
    assert!(Shim::connect(&answer, &bundle).process.lives());
}

/// Check that only the owner can reach the socket: mode 0600, in a directory with mode 0700
/// (CVE-2020-15257).
#[test]
fn only_the_owner_can_reach_the_socket() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let socket = fs::symlink_metadata(shim.socket()).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(node.socket_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(shim.socket().parent().unwrap(), node.socket_dir());
}

/// Check that `ps` finds a shim as it finds the stock one: in a session and process group of its
/// own, with the bundle as its working directory.
#[test]
fn the_server_is_a_daemon_with_the_arguments_of_a_shim() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let process = shim.process;
    let line = process.command_line();
    assert!(line[0].ends_with("containerd-shim-lookout-v2"), "{line:?}");
    assert_eq!(line[1..], ["-namespace", "test", "-id", "web", "-address", &node.address()]);
    assert_eq!((process.group(), process.session()), (Some(process.pid), Some(process.pid)));
}

/// Check that the address is also in the bundle, where containerd 1.6 and 1.7 find the shim after a
/// restart.
#[test]
fn the_address_is_kept_in_the_bundle() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    assert_eq!(bundle.read("address").as_deref(), Some(shim.answer.address.as_str()));
}

/// Check that containers with the same value of either annotation share one shim, and that each
/// finds the address in its own bundle.
#[test]
fn containers_of_one_pod_share_a_shim() {
    for label in ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"] {
        let node = Node::new();
        let [first, second, other] =
            ["one", "two", "three"].map(|id| node.bundle(id).annotated(label, "pod"));
        let other = other.annotated(label, "another pod");
        let shim = node.shim(&first);
        let same = node.shim(&second);
        assert_eq!(shim.answer, same.answer, "{label}");
        assert_eq!(shim.process, same.process, "{label}");
        assert_eq!(second.read("address"), Some(same.answer.address.clone()));
        let another = node.shim(&other);
        assert_ne!(another.process, shim.process, "{label}");
        assert_eq!(node.shims().len(), 2);
    }
}

/// Check that runc's own annotation decides where both are present.
#[test]
fn the_group_annotation_takes_precedence_over_the_sandbox() {
    let node = Node::new();
    let bundle = |id: &str, group: &str| {
        let bundle = node.bundle(id).annotated("io.containerd.runc.v2.group", group);
        bundle.annotated("io.kubernetes.cri.sandbox-id", "pod")
    };
    let shims = [node.shim(&bundle("one", "a")), node.shim(&bundle("two", "b"))];
    assert_ne!(shims[0].process, shims[1].process);
}

/// Check that when starts for one pod race, one of them starts the shim and all find it.
#[test]
fn eight_starts_of_one_pod_make_one_server() {
    let node = Node::new();
    let verbs = (0..8).map(|number| {
        let bundle =
            node.bundle(&format!("c{number}")).annotated("io.kubernetes.cri.sandbox-id", "pod");
        node.start_verb(&bundle)
    });
    let starts: Vec<_> = verbs.map(|verb| thread::spawn(move || verb.run().answer())).collect();
    let answers: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(node.shims().len(), 1);
    assert_eq!(node.sockets().len(), 1);
}

/// Check that the socket of a killed shim does not stop the next one.
#[test]
fn the_socket_of_a_dead_shim_is_replaced() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let dead = node.start_verb(&bundle).run().answer();
    let shim = Shim::connect(&dead, &bundle);
    shim.process.kill();
    shim.wait_for_exit(deadline::PATIENCE);
    assert_eq!(node.sockets().len(), 1, "a killed shim leaves its socket");
    let next = node.shim(&bundle);
    assert_eq!(next.answer, dead);
    assert_ne!(next.process, shim.process);
}

/// Check that a file that is not a socket is never removed, whatever its name.
#[test]
fn a_file_in_place_of_the_socket_is_left_alone() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let socket = shim.socket();
    shim.shut_down();
    fs::write(&socket, "precious").unwrap();
    let refusal = node.start_verb(&bundle).run().refusal();
    assert!(refusal.contains("not a socket"), "{refusal}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    node.wait_until_empty();
}
