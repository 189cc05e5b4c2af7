//! `lookout doctor` and the runtimes on `PATH`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::{fake::Node, run::command};

/// Writes a program that prints `version`.
fn runtime(directory: &Path, name: &str, version: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\nprintf '%s\\n' '{version}' 'spec: 1.0.0'\n"))
        .expect("a temporary directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// The exit status and the output of `lookout doctor ARGUMENTS` with this `PATH`.
fn doctor(path: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let node = Node::new();
    let mut command = command(&node, &[&["doctor"], arguments].concat());
    let output = command.env("PATH", path).output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Check that runtimes with known escapes are named with the fixed versions, in the table and in
/// JSON, that others are only listed, and that the exit status does not depend on it.
#[test]
fn runtimes_with_known_escapes_are_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (none, table) = doctor(directory.path(), &[]);
    assert!(table.contains("runtimes  none\n") && !table.contains("warning"), "{table}");
    runtime(directory.path(), "crun", "crun version 1.99");
    runtime(directory.path(), "runc", "runc version 1.1.5+ds1");
    let (warned, table) = doctor(directory.path(), &[]);
    assert_eq!(none, warned);
    assert!(table.contains("runtimes  runc 1.1.5+ds1, crun 1.99\n"), "{table}");
    let warning = "warning   runc 1.1.5+ds1 has known container escapes: \
                   CVE-2024-21626 (fixed in 1.1.12), CVE-2025-31133 (fixed in 1.2.8, 1.3.3, 1.4.0-rc.3)";
    assert!(table.contains(warning), "{table}");
    assert!(table.contains("may be patched by the distribution"), "{table}");
    let (_, json) = doctor(directory.path(), &["-o", "json"]);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let of_crun = serde_json::json!(
        {"name": "crun", "version": "1.99", "escapes": [], "may_be_patched": false}
    );
    assert_eq!(report["runtimes"][1], of_crun, "{json}");
    assert_eq!(report["runtimes"][0]["may_be_patched"], true, "{json}");
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(1), "{json}");
    runtime(directory.path(), "runc", "runc version 9.9.9");
    let (_, table) = doctor(directory.path(), &[]);
    assert!(table.contains("runc 9.9.9") && !table.contains("warning"), "{table}");
}
