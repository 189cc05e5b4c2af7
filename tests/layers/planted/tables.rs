//! Tables that do not match the source.

use super::{RULES, broken, found};
use crate::rules::{May, Rules};

#[test]
fn tables_that_fit_have_no_faults() {
    let files = [("src/bin/tool.rs", "fn main() {}")];
    assert_eq!(RULES.faults_of_tables(&found(&files)), Vec::<String>::new());
}

#[test]
fn a_module_without_a_row_is_found() {
    let root = "mod shim; mod task; mod observe; mod sys; mod clock;";
    let files = [("src/lib.rs", root), ("src/clock.rs", ""), ("src/bin/tool.rs", "")];
    assert_eq!(RULES.faults_of_tables(&found(&files)), ["clock has no row"]);
}

/// Check that a module without a row may not name any other.
#[test]
fn a_module_without_a_row_may_name_nothing() {
    let root = "mod shim; mod task; mod observe; mod sys; mod clock;";
    let files = [("src/lib.rs", root), ("src/clock.rs", "use crate::sys;")];
    assert_eq!(broken(&files), ["src/clock.rs:1: clock names sys"]);
}

#[test]
fn a_row_without_a_module_is_found() {
    let files = [("src/lib.rs", "mod shim; mod task; mod observe;"), ("src/bin/tool.rs", "")];
    assert_eq!(RULES.faults_of_tables(&found(&files)), ["the row sys has no module"]);
}

#[test]
fn a_row_that_names_a_row_above_it_is_found() {
    let layers = &[
        ("shim", May::NameAllBelow),
        ("task", May::Name("sys shim task")),
        ("observe", May::Name("bundle")),
        ("sys", May::Name("")),
    ];
    let inside = &[("observe::track", "observe::sauce")];
    let rules = Rules { layers, inside, unsafe_in: "sys" };
    let expected = [
        "the row task names shim, which is not below it",
        "the row task names task, which is not below it",
        "the row observe names bundle, which is not below it",
        "observe::sauce is in a rule and is no module",
    ];
    assert_eq!(rules.faults_of_tables(&found(&[])), expected);
}

#[test]
fn all_below_excludes_what_is_above() {
    let layers = &[
        ("shim", May::Name("")),
        ("task", May::NameAllBelow),
        ("observe", May::Name("")),
        ("sys", May::Name("")),
    ];
    let rules = Rules { layers, inside: &[], unsafe_in: "sys" };
    let files = [("src/task.rs", "use crate::{observe, sys,\nshim};")];
    assert_eq!(rules.broken_in(&found(&files)), ["src/task.rs:2: task names shim"]);
}
