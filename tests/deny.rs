//! Proves that `deny.toml` finds what it is for: plants a violation of each rule in a crate of its
//! own.

use std::{fs, path::Path, process::Command};

/// A dependency of the planted crate: its name, version and licence.
type Dependency<'a> = (&'a str, &'a str, &'a str);

/// Checks a crate with these dependencies by the rules. Returns whether it passes, and the report.
#[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
fn check(dependencies: &[Dependency<'_>]) -> (bool, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let make = |path: &Path, manifest: &str| {
        fs::create_dir_all(path.join("src")).expect("a new directory");
        fs::write(path.join("Cargo.toml"), manifest).expect("a new file");
        fs::write(path.join("src/lib.rs"), "").expect("a new file");
    };
    let package = |name: &str, version: &str, license: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nlicense = \"{license}\"\n")
    };
    let mut manifest = package("planted", "1.0.0", "Apache-2.0") + "[dependencies]\n";
    for (number, (name, version, license)) in dependencies.iter().enumerate() {
        let folder = format!("dependency{number}");
        make(&directory.path().join(&folder), &package(name, version, license));
        manifest.push_str(&format!(
            "{folder} = {{ package = \"{name}\", version = \"{version}\", path = \"{folder}\" }}\n"
        ));
    }
    make(directory.path(), &manifest);
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["deny", "--offline", "--color", "never", "--config"]).arg(rules);
    cargo.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    let output = cargo.current_dir(directory.path()).output().expect("cargo runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Check that a crate with an allowed licence passes, and that another licence, two versions of one
/// crate, and a banned crate do not.
#[test]
fn a_planted_violation_of_each_rule_is_found() {
    let (passes, report) = check(&[("one", "1.0.0", "MIT"), ("two", "1.0.0", "Apache-2.0")]);
    assert!(passes, "is cargo-deny installed? hack/setup --check installs it\n{report}");
    let violations: [(&str, &[Dependency<'_>]); 3] = [
        ("error[rejected]", &[("one", "1.0.0", "GPL-3.0-only")]),
        ("error[duplicate]", &[("one", "1.0.0", "MIT"), ("one", "2.0.0", "MIT")]),
        ("error[banned]", &[("openssl-sys", "0.9.0", "MIT")]),
    ];
    for (error, dependencies) in violations {
        let (passes, report) = check(dependencies);
        assert!(!passes && report.contains(error), "{error} was expected:\n{report}");
    }
}
