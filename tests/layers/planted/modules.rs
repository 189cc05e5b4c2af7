//! The files of modules, and files that are not where the compiler expects them.

use super::broken;

const ROOT: &str = "mod shim; mod task; mod observe; mod sys;";
const PLANT: &str = "use crate::shim;";

#[test]
fn a_module_may_be_in_a_directory() {
    let files = [
        ("src/lib.rs", "mod shim; mod work; mod observe; mod sys;"),
        ("src/work/mod.rs", "mod io;"),
        ("src/work/io.rs", PLANT),
    ];
    let found = broken(&files);
    assert!(found.contains(&"src/work/io.rs:1: work::io names shim".to_owned()), "{found:?}");
}

#[test]
fn a_path_attribute_gives_a_file_another_module() {
    // The compiler expects the children of such a file next to it.
    let files = [
        ("src/task.rs", "mod io;"),
        ("src/task/io.rs", "#[path = \"../other/place.rs\"]\nmod disk;"),
        ("src/other/place.rs", "mod child;\nuse super::super::super::shim;"),
        ("src/other/child.rs", "use super::super::super::super::shim;"),
    ];
    let expected = [
        "src/other/child.rs:1: task::io::disk::child names shim",
        "src/other/place.rs:2: task::io::disk names shim",
    ];
    assert_eq!(broken(&files), expected);
}

/// Check that a file that is two modules is checked as both.
#[test]
fn a_file_can_be_two_modules() {
    let files = [
        ("src/task.rs", "#[path = \"both.rs\"]\nmod both;"),
        ("src/shim.rs", "#[path = \"both.rs\"]\nmod both;"),
        ("src/both.rs", PLANT),
    ];
    assert_eq!(broken(&files), ["src/both.rs:1: task::both names shim"]);
}

#[test]
fn all_files_of_a_conditional_module_are_read() {
    let task = "#[cfg(windows)]\nmod a;\n#[cfg(not(windows))]\n#[path = \"task/b.rs\"]\nmod a;\n\
                #[cfg_attr(unix, path = \"task/c.rs\")]\nmod d;";
    let files = [
        ("src/task.rs", task),
        ("src/task/a.rs", PLANT),
        ("src/task/b.rs", PLANT),
        ("src/task/c.rs", PLANT),
        ("src/task/d.rs", PLANT),
    ];
    let expected = ["a.rs:1: task::a", "b.rs:1: task::a", "c.rs:1: task::d", "d.rs:1: task::d"];
    assert_eq!(broken(&files), expected.map(|it| format!("src/task/{it} names shim")));
}

#[test]
fn modules_in_cfg_macros_are_read() {
    let task = "cfg_if::cfg_if! {\n    if #[cfg(unix)] { mod a; } else { use crate::shim; }\n}\n\
                std::cfg_select! {\n    unix => { cfg_if! { if #[cfg(x)] { mod b; } } }\n    \
                _ => { mod c { use crate::shim; } }\n}";
    let files = [("src/task.rs", task), ("src/task/a.rs", PLANT), ("src/task/b.rs", PLANT)];
    let expected = [
        "src/task.rs:2: task names shim",
        "src/task.rs:6: task::c names shim",
        "src/task/a.rs:1: task::a names shim",
        "src/task/b.rs:1: task::b names shim",
    ];
    assert_eq!(broken(&files), expected);
}

#[test]
fn a_file_below_an_inline_module_is_read() {
    let files = [
        ("src/task.rs", "mod a { mod b; #[path = \"d.rs\"] mod c; }"),
        ("src/task/a/b.rs", PLANT),
        ("src/task/a/d.rs", PLANT),
    ];
    let expected =
        ["src/task/a/b.rs:1: task::a::b names shim", "src/task/a/d.rs:1: task::a::c names shim"];
    assert_eq!(broken(&files), expected);
}

#[test]
fn a_file_that_no_module_declares_is_an_error() {
    let expected = ["src/task/lost.rs:1: no `mod` declaration reaches this file"];
    assert_eq!(broken(&[("src/task/lost.rs", "")]), expected);
}

#[test]
fn a_module_without_a_file_is_an_error() {
    assert_eq!(broken(&[("src/task.rs", "\nmod io;")]), ["src/task.rs:2: `mod io` has no file"]);
}

#[test]
fn a_file_that_cannot_be_parsed_is_an_error() {
    let found = broken(&[("src/task.rs", "\nfn {")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("src/task.rs:2: cannot be parsed: "), "{found:?}");
}

#[test]
fn macros_without_a_path_are_an_error() {
    let root = format!("#[macro_use]\n{ROOT}");
    let expected = ["src/lib.rs:2: `#[macro_use]` hides who uses its macros: give them a path"];
    assert_eq!(broken(&[("src/lib.rs", &root)]), expected);
}
