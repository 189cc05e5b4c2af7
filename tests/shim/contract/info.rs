//! `-v` and `-info`.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use containerd_shim_protos::{
    protobuf::{Message as _, well_known_types::any::Any},
    types::introspection::RuntimeInfo,
};

use crate::harness::{Node, any, tools};

fn run(flag: &str, stdin: &[u8]) -> Output {
    run_in(&std::env::var("PATH").unwrap(), flag, stdin)
}

fn run_in(path: &str, flag: &str, stdin: &[u8]) -> Output {
    let mut child = Command::new(tools::SHIM)
        .arg(flag)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn info(stdin: &[u8]) -> RuntimeInfo {
    let output = run("-info", stdin);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    RuntimeInfo::parse_from_bytes(&output.stdout).unwrap()
}

/// Check that the version is printed for both names of the flag.
#[test]
fn the_version_is_printed() {
    for flag in ["-v", "--version"] {
        let output = run(flag, b"");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("containerd-shim-lookout-v2:\n"), "{text}");
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
}

/// Check that the features of the runtime in the options are passed on unchanged, and the options
/// too.
#[test]
fn the_features_of_the_runtime_are_passed_on() {
    let node = Node::new();
    let options = node.bundle("web").options();
    let info = info(&options.write_to_bytes().unwrap());
    assert_eq!(info.name, "containerd-shim-lookout-v2");
    assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.options.as_ref(), Some(&options));
    assert_eq!(
        info.features.type_url,
        "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    );
    let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
    assert_eq!(features["ociVersionMax"], "1.2.0");
}

/// Check that a runtime without the `features` verb is not an error: crun before 1.8 had none.
#[test]
fn a_runtime_without_features_has_none() {
    for script in ["exit 1", "echo not JSON; exit 0", "echo '[]'; exit 0"] {
        let node = Node::new();
        node.runtime().before("features", script);
        let info = info(&node.bundle("web").options().write_to_bytes().unwrap());
        assert!(info.features.is_none(), "{script}");
        assert_eq!(info.name, "containerd-shim-lookout-v2");
    }
}

/// Check that without options and without `runc` in PATH the answer has no features, and is no
/// error: containerd logs an error at every create otherwise.
#[test]
fn without_options_a_missing_runc_is_no_error() {
    for stdin in [Vec::new(), Any::default().write_to_bytes().unwrap()] {
        let output = run_in("/nonexistent", "-info", &stdin);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
        let info = RuntimeInfo::parse_from_bytes(&output.stdout).unwrap();
        assert_eq!(info.name, "containerd-shim-lookout-v2");
        assert!(info.features.is_none());
    }
}

/// Check that the error for a missing runtime names it.
#[test]
fn a_missing_runtime_is_named() {
    let options = any(
        "runtimeoptions.v1.Options",
        [b"\x1a\x18".as_slice(), b"BinaryName='no-such-oci'"].concat(),
    );
    let output = run("-info", &options.write_to_bytes().unwrap());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no-such-oci") && text.matches('\n').count() == 1, "{text:?}");
}
