//! Paths in every kind of syntax that can hold one.

use super::{assert_names_shim, broken};

#[test]
fn a_path_in_an_expression_is_found() {
    assert_names_shim("fn f() {\n    crate::shim::run();\n}", &[2]);
    assert_names_shim("const LIMIT: usize = 1 + crate::shim::LIMIT;", &[1]);
    assert_names_shim("fn f() { let _ = crate::shim::Run { x: 1 }; }", &[1]);
    assert_names_shim("fn f() { x.map::<crate::shim::Run>(|it| async move { it }) }", &[1]);
}

#[test]
fn a_path_in_a_type_is_found() {
    assert_names_shim("struct S {\n    x: Vec<Option<crate::shim::Run>>,\n}", &[2]);
    assert_names_shim("fn f() -> Box<dyn Fn(crate::shim::Run) -> u8> { todo() }", &[1]);
    assert_names_shim("impl crate::shim::Run for X {}", &[1]);
    assert_names_shim("fn f<T>() where\n    T: Iterator<Item = crate::shim::Run> {}", &[2]);
    assert_names_shim("fn f(_: impl crate::shim::Run) {}", &[1]);
}

#[test]
fn a_path_in_a_qualified_type_is_found() {
    assert_names_shim("fn f() { <crate::shim::Run>::go() }", &[1]);
    assert_names_shim("fn f() { <X as crate::shim::Run>::go() }", &[1]);
}

#[test]
fn a_path_in_a_pattern_is_found() {
    assert_names_shim("fn f() { match x {\n    crate::shim::State::Up => {}\n} }", &[2]);
    assert_names_shim("fn f() { let crate::shim::Run(_) = x; }", &[1]);
    assert_names_shim("fn f() { if let crate::shim::Run { .. } = x {} }", &[1]);
}

#[test]
fn a_path_in_an_attribute_is_found() {
    assert_names_shim("#[derive(Debug, crate::shim::Run)]\nstruct S;", &[1]);
    assert_names_shim("#[crate::shim::run]\nfn f() {}", &[1]);
    assert_names_shim("#[arg(value_parser = crate::shim::parse)]\nstruct S;", &[1]);
    assert_names_shim("#[cfg_attr(test, derive(crate::shim::Run))]\nstruct S;", &[1]);
    assert_names_shim("#![allow(crate::shim::lint)]", &[1]);
}

/// Check that a string counts as a path where an attribute uses it as one.
#[test]
fn a_path_in_a_string_of_an_attribute_is_found() {
    assert_names_shim("struct S {\n    #[serde(with = \"crate::shim\")]\n    x: u8,\n}", &[2]);
    assert_names_shim("#[serde(from = \"Vec<crate::shim::Run>\")]\nstruct S;", &[1]);
    assert_names_shim("#[serde(bound = \"T: crate::shim::Run\")]\nstruct S<T>(T);", &[1]);
}

#[test]
fn the_path_of_a_macro_is_found() {
    assert_names_shim("fn f() { crate::shim::run!() }", &[1]);
    assert_names_shim("crate::shim::run! {}", &[1]);
}

#[test]
fn tests_may_not_name_more_than_their_module() {
    let files = [
        (
            "src/task.rs",
            "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod model {\n    use crate::shim;\n}",
        ),
        ("src/task/tests.rs", "#[test]\nfn f() { crate::shim::run() }"),
    ];
    let expected =
        ["src/task.rs:5: task::model names shim", "src/task/tests.rs:2: task::tests names shim"];
    assert_eq!(broken(&files), expected);
}

#[test]
fn a_module_that_is_forbidden_inside_another_is_found() {
    let files = [
        ("src/observe/track.rs", "mod tree;\nuse super::source;"),
        ("src/observe/track/tree.rs", "fn f(_: crate::observe::source::ring::Ring) {}"),
        // The opposite direction is allowed.
        ("src/observe/source.rs", "mod ring;\nuse super::track::Tree;"),
        ("src/observe/source/ring.rs", ""),
    ];
    let expected = [
        "src/observe/track.rs:2: observe::track names observe::source",
        "src/observe/track/tree.rs:1: observe::track::tree names observe::source::ring",
    ];
    assert_eq!(broken(&files), expected);
}

#[test]
fn a_program_may_name_only_what_its_row_allows() {
    let program = "mod own;\nfn main() { lookout::shim::run() }\nuse lookout::task;";
    let files = [
        ("src/bin/tool.rs", program),
        ("src/bin/own.rs", "\n"),
        ("src/bin/other/main.rs", "mod own;\nuse crate::own::x;\nuse ::lookout::{shim, sys};"),
        ("src/bin/other/own.rs", "use super::own;"),
    ];
    // `own.rs` is in `src/bin`, so cargo builds it as a program, too.
    let expected = [
        "src/bin/other/main.rs:3: bin::other names sys",
        "src/bin/tool.rs:3: bin::tool names task",
    ];
    assert_eq!(broken(&files), expected);
}
