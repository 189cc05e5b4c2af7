//! Keeps the layers: a module names only those to its right.
//!
//! `shim → task → bundle → runc → reaper → sys`, `shim, task → publish → sys`, `shim → observe →
//! publish, sys`, `cli → daemon → client → api`, all → `model`. `task` and `observe` never name
//! each other.

use std::{fs, path::Path};

/// Each module, and what it may name.
const MAY_NAME: [(&str, &[&str]); 22] = [
    ("api", &[]),
    ("model", &[]),
    ("clock", &[]),
    ("wire", &[]),
    ("sys", &[]),
    ("linux", &["model", "clock", "sys"]),
    ("platform", &["model", "clock", "sys", "linux"]),
    ("reaper", &["model", "sys"]),
    ("runc", &["model", "sys", "reaper"]),
    ("bundle", &["model", "runc"]),
    ("accept", &[]),
    ("log", &["model", "clock"]),
    ("publish", &["model", "sys"]),
    ("task", &["model", "sys", "linux", "reaper", "runc", "bundle", "publish"]),
    ("config", &["model"]),
    ("registration", &["platform"]),
    (
        "observe",
        &[
            "model",
            "clock",
            "wire",
            "api",
            "sys",
            "linux",
            "platform",
            "config",
            "registration",
            "publish",
        ],
    ),
    (
        "shim",
        &[
            "model", "api", "sys", "linux", "platform", "accept", "log", "config", "reaper",
            "runc", "bundle", "publish", "task", "observe",
        ],
    ),
    ("registry", &["model", "clock", "api", "sys", "linux", "platform", "observe", "client"]),
    (
        "client",
        &["model", "clock", "wire", "api", "sys", "platform", "config", "registration", "registry"],
    ),
    (
        "daemon",
        &[
            "model",
            "clock",
            "api",
            "sys",
            "linux",
            "platform",
            "accept",
            "log",
            "config",
            "registration",
            "observe",
            "registry",
            "client",
        ],
    ),
    (
        "cli",
        &["model", "api", "sys", "platform", "config", "client", "observe", "registry", "daemon"],
    ),
];

/// Check that no module reaches to its left, and that only `sys` has unsafe code.
#[test]
fn a_module_names_only_what_is_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (module, may_name) in MAY_NAME {
        for (file, text) in files_of(&source, module) {
            seen += 1;
            for (other, _) in
                MAY_NAME.iter().filter(|(other, _)| *other != module && !may_name.contains(other))
            {
                assert!(!names(&text, other), "{file} names {other}, which is above {module}");
            }
            assert!(module == "sys" || !text.contains("unsafe {"), "{file} has unsafe code");
        }
    }
    assert!(seen > 40, "only {seen} files: where is the source?");
}

/// Whether a file names a module of this crate: by its path, or in a list of imports as rustfmt
/// lays it out.
fn names(text: &str, module: &str) -> bool {
    let imports = text
        .split("use crate::{")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n};").map(|(list, _)| list));
    let entry = format!("\n    {module}::");
    text.contains(&format!("crate::{module}::"))
        || imports.into_iter().any(|list| list.contains(&entry))
}

fn files_of(source: &Path, module: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut paths = vec![source.join(module), source.join(format!("{module}.rs"))];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(
                fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("UTF-8")));
        }
    }
    found
}
