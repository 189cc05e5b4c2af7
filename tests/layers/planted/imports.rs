//! Imports, and the names that they give to modules.

use super::{assert_names_shim, broken};

#[test]
fn an_import_of_a_module_is_found() {
    assert_names_shim("use crate::shim;", &[1]);
}

#[test]
fn an_import_of_an_item_is_found() {
    assert_names_shim("pub use crate::shim::run;", &[1]);
}

#[test]
fn an_import_in_a_list_is_found_at_its_own_line() {
    assert_names_shim("use crate::{\n    sys,\n    shim::run,\n};", &[3]);
}

#[test]
fn an_import_in_a_list_in_a_list_is_found() {
    let text = "use crate::{sys, observe::{\n    track::{self, Tree},\n    source::{a, b}}};";
    let expected =
        ["src/task.rs:2: task names observe::track", "src/task.rs:3: task names observe::source"];
    assert_eq!(broken(&[("src/task.rs", text)]), expected);
}

#[test]
fn a_glob_import_is_found() {
    assert_names_shim("use crate::shim::*;", &[1]);
}

#[test]
fn an_import_without_a_name_is_found() {
    assert_names_shim("use crate::shim::Run as _;", &[1]);
}

#[test]
fn an_import_in_a_function_is_found() {
    assert_names_shim("fn f() {\n    use crate::shim as s;\n    s::run();\n}", &[2, 3]);
}

#[test]
fn a_module_is_found_under_another_name() {
    assert_names_shim("use crate::shim as other;\nfn f() { other::run() }", &[1, 2]);
}

#[test]
fn a_module_is_found_through_another_name_of_the_crate() {
    assert_names_shim("use crate as z;\nfn f() { z::shim::run() }", &[2]);
    assert_names_shim("use crate::{self as z};\nfn f() { z::shim::run() }", &[2]);
    assert_names_shim("fn f() {\n    use crate as z;\n    z::shim::run()\n}", &[3]);
}

/// Check that the order of imports does not matter, as it does not to the compiler.
#[test]
fn an_alias_of_an_alias_is_found() {
    let text = "fn f() { c::run() }\nuse b::shim as c;\nuse a as b;\nuse crate as a;";
    assert_names_shim(text, &[1, 2]);
    let text = "fn f() {\n    c::run();\n    use b::shim as c;\n    use crate as b;\n}";
    assert_names_shim(text, &[2, 3]);
}

#[test]
fn a_module_is_found_through_a_glob_of_the_crate() {
    assert_names_shim("use crate::*;\nfn f() { shim::run() }", &[2]);
    assert_names_shim("fn f() {\n    use crate::*;\n    shim::run()\n}", &[3]);
}

/// Check that a child module which imports everything from its parent also has the names that its
/// parent imports.
#[test]
fn a_module_is_found_through_a_glob_of_the_parent() {
    let text = "use crate as z;\nmod tests {\n    use super::*;\n    fn f() { z::shim::run() }\n}";
    let expected = ["src/task.rs:4: task::tests names shim"];
    assert_eq!(broken(&[("src/task.rs", text)]), expected);
}

#[test]
fn super_is_followed_from_the_modules_own_path() {
    assert_names_shim("use super::shim;", &[1]);
    assert_names_shim("fn f() { self::super::shim::run() }", &[1]);
    let files = [
        ("src/task.rs", "mod io;"),
        ("src/task/io.rs", "mod tests;"),
        ("src/task/io/tests.rs", "\nuse super::super::super::shim;\nuse super::super::shim::x;"),
    ];
    assert_eq!(broken(&files), ["src/task/io/tests.rs:2: task::io::tests names shim"]);
}

#[test]
fn super_in_an_inline_module_is_followed_from_that_module() {
    let text = "mod inner {\n    use super::super::shim;\n    use super::shim as own;\n}";
    assert_eq!(broken(&[("src/task.rs", text)]), ["src/task.rs:2: task::inner names shim"]);
}

/// Check the same for a module in a function, which has the function's module as its parent.
#[test]
fn super_in_a_module_in_a_function_is_followed() {
    let text = "fn f() {\n    mod inner {\n        use super::super::shim;\n    }\n}";
    assert_eq!(broken(&[("src/task.rs", text)]), ["src/task.rs:3: task::inner names shim"]);
}

#[test]
fn the_crate_is_found_under_its_own_name() {
    let root = "extern crate self as own;\nmod shim; mod task; mod observe; mod sys;";
    let task = "fn f() { own::shim::run() }\nuse ::own::shim;\nuse lookout::shim::x;";
    let lines = [1, 2, 3].map(|line| format!("src/task.rs:{line}: task names shim"));
    assert_eq!(broken(&[("src/lib.rs", root), ("src/task.rs", task)]), lines);
}

#[test]
fn a_re_export_of_the_root_is_followed() {
    let root = "mod shim; mod task; mod observe; mod sys;\npub use shim::Run as Walk;";
    let files = [("src/lib.rs", root), ("src/task.rs", "type Own = crate::Walk;")];
    assert_eq!(broken(&files), ["src/task.rs:1: task names shim"]);
}

/// Check that the re-exports of a module's own `mod.rs` do not hide a violation of the rules inside
/// it.
#[test]
fn a_re_export_inside_a_module_is_followed() {
    let observe = "mod track; mod source;\npub use source::{Source, Record as Fact};";
    let track = "use super::Source;\nfn f(_: crate::observe::Fact) {}\n";
    let expected = [1, 2]
        .map(|line| format!("src/observe/track.rs:{line}: observe::track names observe::source"));
    assert_eq!(broken(&[("src/observe.rs", observe), ("src/observe/track.rs", track)]), expected);
    let track = "use super::*;\nfn f(_: Source) {}\nfn g(_: &Option<Fact>) { h!(Fact) }";
    let expected = [2, 3]
        .map(|line| format!("src/observe/track.rs:{line}: observe::track names observe::source"));
    assert_eq!(broken(&[("src/observe.rs", observe), ("src/observe/track.rs", track)]), expected);
}

#[test]
fn a_glob_inside_a_module_is_followed() {
    let files = [
        ("src/observe.rs", "mod track; mod source;\npub use source::*;"),
        ("src/observe/source.rs", "pub struct Ring;\npub use crate::sys::Fd;"),
        ("src/observe/track.rs", "use super::Fd;\nuse super::Ring;"),
    ];
    let expected = ["src/observe/track.rs:2: observe::track names observe::source"];
    assert_eq!(broken(&files), expected);
}

/// Check that a declared module and an import of the same name are both followed, whichever the
/// compiler takes.
#[test]
fn both_of_a_conditional_name_are_followed() {
    let observe = "mod track; mod source;\n#[cfg(unix)]\nmod disk { pub fn f() {} }\n\
                   #[cfg(not(unix))]\nuse source::disk;";
    let files = [
        ("src/observe.rs", observe),
        ("src/observe/source.rs", "pub mod disk {}"),
        ("src/observe/track.rs", "fn f() { super::disk::f() }"),
    ];
    let expected = ["src/observe/track.rs:1: observe::track names observe::source::disk"];
    assert_eq!(broken(&files), expected);
    let files = [
        ("src/observe.rs", "mod track; mod source;\npub use own::*;\npub use source::*;\nmod own;"),
        ("src/observe/own.rs", "pub struct Ring;"),
        ("src/observe/source.rs", "pub struct Ring;"),
        ("src/observe/track.rs", "use super::Ring;"),
    ];
    let expected = ["src/observe/track.rs:1: observe::track names observe::source"];
    assert_eq!(broken(&files), expected);
}
