//! Paths among the tokens of a macro.

use super::{assert_names_shim, broken};

#[test]
fn a_path_in_the_arguments_of_a_macro_is_found() {
    assert_names_shim("fn f() { vec![1, crate::shim::run()] }", &[1]);
    assert_names_shim("fn f() {\n    format!(\"{}\",\n        crate::shim::NAME);\n}", &[3]);
    assert_names_shim("fn f() { tracing::warn!(x = %crate::shim::NAME, \"failed\") }", &[1]);
    assert_names_shim("fn f() { matches!(x, Some(crate::shim::State::Up)) }", &[1]);
    assert_names_shim("fn f() { x!(0..crate::shim::LIMIT) }", &[1]);
    assert_names_shim("thread_local! { static X: crate::shim::Run = y(); }", &[1]);
}

#[test]
fn a_path_in_a_macro_in_a_macro_is_found() {
    assert_names_shim("fn f() { assert!(vec![{ crate::shim::run() }].is_empty()) }", &[1]);
}

#[test]
fn super_in_a_macro_is_found() {
    assert_names_shim("fn f() { vec![super::shim::run(), self::super::shim::run()] }", &[1]);
    let text = "mod inner {\n    fn f() { vec![super::super::shim::run(), super::shim()] }\n}";
    assert_eq!(broken(&[("src/task.rs", text)]), ["src/task.rs:2: task::inner names shim"]);
}

#[test]
fn a_path_in_the_body_of_a_macro_is_found() {
    let text = "macro_rules! m {\n    ($x:expr) => { $crate::shim::run($x) };\n}";
    assert_names_shim(text, &[2]);
    assert_names_shim("macro_rules! m { () => { use $crate::{sys, shim::run}; } }", &[1]);
    assert_names_shim("macro_rules! m { ($x:ident) => { use crate::{sys, shim::$x}; } }", &[1]);
    assert_names_shim("macro_rules! m { ($x:ident) => { crate::shim::$x() } }", &[1]);
}

#[test]
fn another_name_of_a_module_is_found_in_a_macro() {
    assert_names_shim("use crate as z;\nfn f() { vec![z::shim::run()] }", &[2]);
    assert_names_shim("fn f() { vec![lookout::shim::run(), ::lookout::shim::run()] }", &[1]);
}

#[test]
fn an_import_in_a_macro_is_found() {
    let text = "proptest! {\n    fn f() {\n        use crate::{self as z, shim as s};\n        \
                s::run();\n        z::shim::run();\n    }\n}";
    assert_names_shim(text, &[3, 4, 5]);
    assert_names_shim("select! {\n    use crate::shim::*;\n}", &[2]);
    assert_names_shim("m! {\n    use crate::{\n    sys::{a, b}, shim};\n}", &[3]);
}

#[test]
fn a_module_in_a_macro_has_a_path_of_its_own() {
    let text = "m! {\n  mod inner {\n    use super::shim;\n    use super::super::shim;\n  }\n}";
    assert_eq!(broken(&[("src/task.rs", text)]), ["src/task.rs:4: task::inner names shim"]);
}

#[test]
fn an_attribute_in_a_macro_is_read_as_one() {
    assert_names_shim("m! {\n    #[serde(with = \"crate::shim\")]\n    x: u8\n}", &[2]);
}

/// Check that an incomplete path is refused instead of guessed: it could name any module.
#[test]
fn a_path_that_a_macro_completes_is_refused() {
    let refused = "src/task.rs:1: a macro completes this path: write out which module it names";
    for path in ["crate::$module::run()", "super::$module::run()", "use crate::{sys, $module};"] {
        let text = format!("macro_rules! m {{ ($module:ident) => {{ {path} }} }}");
        assert_eq!(broken(&[("src/task.rs", &text)]), [refused], "{text}");
    }
}

/// Check that an exported macro, which is at the crate's root, counts as part of the module that
/// defines it.
#[test]
fn an_exported_macro_is_found_at_the_root() {
    let files = [
        ("src/shim.rs", "#[macro_export]\nmacro_rules! run { () => {} }"),
        ("src/task.rs", "fn f() { crate::run!() }"),
    ];
    assert_eq!(broken(&files), ["src/task.rs:1: task names shim"]);
}
