//! Code that looks like a violation but is allowed.

use super::{assert_names_shim, broken};

#[track_caller]
fn assert_innocent(text: &str) {
    assert_names_shim(text, &[]);
}

#[test]
fn a_local_module_may_have_the_name_of_another_one() {
    let files = [
        ("src/task.rs", "mod shim;\nuse self::shim::x;\nfn f() { shim::x(); vec![shim::x()] }"),
        ("src/task/shim.rs", "use super::shim;"),
    ];
    assert_eq!(broken(&files), Vec::<String>::new());
    assert_innocent("mod shim { pub fn x() {} }\nuse crate::task::{shim::x};");
    assert_innocent("mod inner {\n    mod shim {}\n    use super::*;\n    use shim::x;\n}");
}

/// Check that a module's own names shadow names from a glob.
#[test]
fn an_own_name_shadows_a_glob() {
    assert_innocent("use crate::*;\nmod shim {}\nfn f() { shim::run() }");
    assert_innocent("use crate::*;\nuse std::x as shim;\nfn f() { shim::run() }");
    assert_innocent("use crate::*;\nfn f() { enum shim { A } shim::A }");
}

#[test]
fn strings_and_comments_name_nothing() {
    assert_innocent("// crate::shim::run()\n/* use crate::shim; */");
    assert_innocent("//! See [`crate::shim`].\n/// use crate::shim;\nfn f() {}");
    assert_innocent("fn f() { g(\"crate::shim::run\", r#\"use crate::shim;\"#) }");
    assert_innocent("fn f() { format!(\"crate::shim::run {x}\") }");
    assert_innocent("#[doc = \"crate::shim\"]\nfn f() {}");
    assert_innocent("#[expect(dead_code, reason = \"crate::shim calls it\")]\nfn f() {}");
}

#[test]
fn fields_methods_and_variables_name_nothing() {
    assert_innocent("use crate::*;\nfn f(shim: X) { shim.shim.shim::<u8>(); X { shim, y: 1 } }");
    assert_innocent("use crate::*;\nfn f() { m!(x.shim::y, shim, shim = 1, ?shim, 'shim: loop) }");
    assert_innocent("use crate::*;\nfn f<'shim>(x: &'shim u8) { let shim = 1; g(shim) }");
    assert_innocent("#[serde(rename = \"shim\")]\nstruct S;\nuse super::*;");
}

#[test]
fn other_crates_are_ignored() {
    assert_innocent("use shim::run;\nuse ::shim::run as r;\nuse std::shim;");
    assert_innocent("extern crate shim;\nfn f() { shim::run(); vec![::shim::run(), a::shim::b] }");
    assert_innocent("extern crate other as shim;\nuse shim::x;");
    assert_innocent("fn f() { containerd::shim::run(); tokio::task::spawn(x) }");
}

/// Check that the path of a visibility is not a use of that module.
#[test]
fn a_visibility_names_nothing() {
    let files = [
        ("src/observe.rs", "mod source; mod track;"),
        (
            "src/observe/track.rs",
            "pub(in crate::observe) fn f() {}\npub(in super::super) struct S;",
        ),
        ("src/sys.rs", "m! { pub(in crate::shim) fn f() {} }"),
    ];
    assert_eq!(broken(&files), Vec::<String>::new());
}

/// Check that a module which uses a facade does not depend on the modules behind it.
#[test]
fn a_re_export_of_another_module_is_not_followed() {
    let files = [
        ("src/shim.rs", "use crate::observe::Fd;"),
        ("src/observe.rs", "mod source; mod track;\npub use crate::sys::Fd;"),
        ("src/sys.rs", "pub struct Fd;"),
        ("src/bin/tool.rs", "use lookout::shim::Task;"),
        ("src/task.rs", "pub struct Task;"),
    ];
    assert_eq!(broken(&files), Vec::<String>::new());
}

#[test]
fn a_module_below_may_be_named() {
    assert_innocent("use crate::{sys, sys::{self as s, Fd}};\nfn f() { super::sys::x(s::y()) }");
    let files = [("src/shim.rs", "use crate::{observe::source, sys, task};")];
    assert_eq!(broken(&files), Vec::<String>::new());
}

#[test]
fn an_import_of_itself_terminates() {
    assert_innocent("use self::a as b;\nuse self::b as a;\nfn f() { a::x() }");
    assert_innocent("use self::*;\nuse super::task::*;\nfn f() { x::y() }");
    assert_innocent("mod x { pub fn x() {} }\nuse x::x;\nfn f() { x(); x::x() }");
    assert_innocent("use self::x::*;\nuse crate::task::y::*;\nfn f() { x::y(); z!(X) }");
}
