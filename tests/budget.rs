//! Budgets for the number of crates, with slack. `hack/budget` has those of the release build.
//!
//! Each crate costs time to build, and has to be trusted. A change that raises a budget says why in
//! the commit.

use std::{collections::BTreeSet, process::Command};

/// The crates that a program is made of, itself included, without those that only build it.
fn crates(arguments: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]);
    cargo.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    #[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // The name and the version; a crate in several places has a mark after them.
    let crates = text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    crates.filter(|name| !name.is_empty()).collect()
}

/// Check that the shim names few crates, and is made of few; 21 and 91 when this was written.
#[test]
fn the_shim_is_made_of_few_crates() {
    let direct = crates(&["--no-default-features", "--depth", "1"]).len() - 1;
    let all = crates(&["--no-default-features"]).len() - 1;
    assert!(direct <= 24, "{direct} direct dependencies");
    assert!(all <= 100, "{all} crates");
}

/// Check that the command is made of few crates; 157 with SQLite, CEL, YAML, time zones, a screen and
/// the templates of reports.
#[test]
fn the_command_is_made_of_few_crates() {
    let all = crates(&[]).len() - 1;
    assert!(all <= 165, "{all} crates");
    assert!(all > 50, "only {all} crates: is the list still read correctly?");
}
