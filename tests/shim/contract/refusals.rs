//! Refused starts: exit code 1, one line of text, and nothing left.

use std::fs;

use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::shim::oci;

use crate::harness::{Node, StartVerb};

/// Runs `verb`, which must fail with one line that contains `words` and leave nothing.
#[track_caller]
fn refused(node: &Node, verb: &StartVerb, words: &str) {
    let refusal = verb.run().refusal();
    assert!(refusal.contains(words), "{refusal:?} does not contain {words:?}");
    assert_eq!(node.sockets(), Vec::<String>::new());
    node.wait_until_empty();
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

/// Check that ids and namespaces that would lead out of a directory are refused.
#[test]
fn a_namespace_that_is_a_path_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    for namespace in ["..", "a/b", "/"] {
        refused(&node, &node.start_verb(&bundle).namespace(namespace), "invalid namespace");
    }
}

/// Check that the error for an unknown flag or verb names it.
#[test]
fn an_unknown_flag_is_refused() {
    let node = Node::new();
    refused(&node, &node.start_verb(&node.bundle("web")).flag("-frobnicate"), "frobnicate");
}

/// Check that a bundle without a `config.json` is refused.
#[test]
fn a_bundle_without_config_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    fs::remove_file(bundle.path.join("config.json")).unwrap();
    refused(&node, &node.start_verb(&bundle), "config.json");
}

/// Check that a `config.json` that is not JSON is refused.
#[test]
fn a_config_that_is_not_json_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    fs::write(bundle.path.join("config.json"), "{ \"annotations\": [").unwrap();
    refused(&node, &node.start_verb(&bundle), "config.json");
}

/// Check that a `config.json` of more than 16 MiB is refused without being read.
#[test]
fn an_oversized_config_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let file = fs::File::create(bundle.path.join("config.json")).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    refused(&node, &node.start_verb(&bundle), "config.json");
}

/// Check that stdin that is neither parameters nor options is refused.
#[test]
fn garbage_on_stdin_is_refused() {
    let node = Node::new();
    refused(&node, &node.start_verb(&node.bundle("web")).stdin([0xff; 64]), "decode");
}

/// Check that an endless stdin is not read without a limit (containerd 45b7de283).
#[test]
fn an_oversized_stdin_is_refused() {
    let node = Node::new();
    let verb = node.start_verb(&node.bundle("web")).with(|params| {
        params.containerd_version = "x".repeat(11 << 20);
    });
    refused(&node, &verb, "");
}

/// Check that a socket directory with a path too long for a socket is refused (containerd's
/// TestShimSockLength).
#[test]
fn a_socket_directory_with_a_too_long_path_is_refused() {
    let node = Node::new();
    let deep = node.path().join("d".repeat(40)).to_string_lossy().into_owned();
    let verb = node.start_verb(&node.bundle("web")).with(|params| params.socket_dir = Some(deep));
    refused(&node, &verb, "longer than 107 bytes");
}

/// Check that a socket directory that cannot be created is refused.
#[test]
fn a_socket_directory_that_cannot_be_created_is_refused() {
    let node = Node::new();
    let inside_a_file =
        node.bundle("other").path.join("config.json/s").to_string_lossy().into_owned();
    let verb =
        node.start_verb(&node.bundle("web")).with(|params| params.socket_dir = Some(inside_a_file));
    refused(&node, &verb, "failed to create");
}

/// Check that a shim that cannot join its configured cgroup does not stay.
#[test]
fn a_missing_shim_cgroup_is_refused() {
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

/// Check that a start that cannot write the address leaves no shim, because containerd could not
/// find it.
#[test]
fn an_address_that_cannot_be_written_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    // A symbolic link must not be followed.
    std::os::unix::fs::symlink(node.path().join("outside"), bundle.path.join("address")).unwrap();
    refused(&node, &node.start_verb(&bundle), "address");
    assert!(!node.path().join("outside").exists());
}
