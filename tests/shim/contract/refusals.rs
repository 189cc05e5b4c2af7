//! A `start` that cannot be: exit code 1, one line, and nothing left.

use std::fs;

use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::shim::oci;

use crate::harness::{Node, StartVerb};

/// Runs `verb`, which must fail with a line that has `words`, and looks for leavings.
#[track_caller]
fn refused(node: &Node, verb: &StartVerb, words: &str) {
    let refusal = verb.run().refusal();
    assert!(refusal.contains(words), "{refusal:?} does not say {words:?}");
    assert_eq!(node.sockets(), Vec::<String>::new());
    node.is_deserted();
}

/// Check that a start without a namespace is refused.
#[test]
fn an_empty_namespace_is_refused() {
    let node = Node::new();
    refused(
        &node,
        &node.start_verb(&node.bundle("web")).namespace(""),
        "namespace cannot be empty",
    );
}

/// Check that ids and namespaces that would lead out of a folder are refused.
#[test]
fn a_namespace_that_is_a_path_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    for namespace in ["..", "a/b", "/"] {
        refused(&node, &node.start_verb(&bundle).namespace(namespace), "invalid namespace");
    }
}

/// Check that flags and verbs that are none are named.
#[test]
fn an_unknown_flag_is_refused() {
    let node = Node::new();
    refused(&node, &node.start_verb(&node.bundle("web")).flag("-frobnicate"), "frobnicate");
}

/// Check that a bundle without its specification is refused.
#[test]
fn a_bundle_without_config_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    fs::remove_file(bundle.path.join("config.json")).unwrap();
    refused(&node, &node.start_verb(&bundle), "config.json");
}

/// Check that a specification that is no JSON is refused.
#[test]
fn a_config_that_is_no_json_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    fs::write(bundle.path.join("config.json"), "{ \"annotations\": [").unwrap();
    refused(&node, &node.start_verb(&bundle), "config.json");
}

/// Check that a specification of more than 16 MiB is refused, not read.
#[test]
fn an_oversized_config_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let file = fs::File::create(bundle.path.join("config.json")).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    refused(&node, &node.start_verb(&bundle), "config.json");
}

/// Check that a stdin that is neither parameters nor options is refused.
#[test]
fn garbage_on_stdin_is_refused() {
    let node = Node::new();
    refused(&node, &node.start_verb(&node.bundle("web")).stdin([0xff; 64]), "decode");
}

/// Check that a stdin without end is not read without end (containerd 45b7de283).
#[test]
fn an_oversized_stdin_is_refused() {
    let node = Node::new();
    let verb = node.start_verb(&node.bundle("web")).with(|params| {
        params.containerd_version = "x".repeat(11 << 20);
    });
    refused(&node, &verb, "");
}

/// Check that a socket folder that is too deep for a socket's path is refused (containerd's
/// TestShimSockLength).
#[test]
fn a_socket_folder_that_is_too_deep_is_refused() {
    let node = Node::new();
    let deep = node.path().join("d".repeat(40)).to_string_lossy().into_owned();
    let verb = node.start_verb(&node.bundle("web")).with(|params| params.socket_dir = Some(deep));
    refused(&node, &verb, "longer than 107 bytes");
}

/// Check that a socket folder that cannot be made is refused.
#[test]
fn a_socket_folder_that_cannot_be_made_is_refused() {
    let node = Node::new();
    let inside_a_file =
        node.bundle("other").path.join("config.json/s").to_string_lossy().into_owned();
    let verb =
        node.start_verb(&node.bundle("web")).with(|params| params.socket_dir = Some(inside_a_file));
    refused(&node, &verb, "failed to create");
}

/// Check that a shim that cannot join the cgroup that it should be in does not stay.
#[test]
fn a_shim_cgroup_that_is_not_there_is_refused() {
    let node = Node::new();
    let options =
        oci::Options { shim_cgroup: "/no-such-cgroup-of-lookout".into(), ..Default::default() };
    let options =
        crate::harness::any("containerd.runc.v1.Options", options.write_to_bytes().unwrap());
    refused(
        &node,
        &node.start_verb(&node.bundle("web")).with_options(options),
        "no-such-cgroup-of-lookout",
    );
}

/// Check that a bundle that cannot be written does not cost a shim that nobody knows.
#[test]
fn an_address_that_cannot_be_written_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    // Not followed, wherever it leads.
    std::os::unix::fs::symlink(node.path().join("elsewhere"), bundle.path.join("address")).unwrap();
    refused(&node, &node.start_verb(&bundle), "address");
    assert!(!node.path().join("elsewhere").exists());
}
