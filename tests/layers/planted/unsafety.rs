//! Unsafe code, which is allowed in `sys` only.

use super::broken;

#[track_caller]
fn assert_unsafe(text: &str, line: usize) {
    let expected = [format!("src/task.rs:{line}: task has unsafe code")];
    assert_eq!(broken(&[("src/task.rs", text)]), expected, "{text}");
    assert_eq!(broken(&[("src/sys.rs", text)]), Vec::<String>::new(), "{text}");
    let files = [("src/sys.rs", "mod fd;"), ("src/sys/fd.rs", text)];
    assert_eq!(broken(&files), Vec::<String>::new(), "{text}");
}

#[test]
fn an_unsafe_block_is_found() {
    assert_unsafe("fn f() {\n    unsafe { g() }\n}", 2);
}

#[test]
fn an_unsafe_function_is_found() {
    assert_unsafe("unsafe fn f() {}", 1);
    assert_unsafe("impl X {\n    pub unsafe fn f() {}\n}", 2);
    assert_unsafe("trait X {\n    unsafe fn f();\n}", 2);
}

#[test]
fn an_unsafe_trait_is_found() {
    assert_unsafe("unsafe trait X {}", 1);
    assert_unsafe("\nunsafe impl Send for X {}", 2);
}

#[test]
fn foreign_items_are_found() {
    assert_unsafe("unsafe extern \"C\" {}", 1);
}

#[test]
fn an_unsafe_attribute_is_found() {
    assert_unsafe("#[unsafe(no_mangle)]\nfn f() {}", 1);
    assert_unsafe("#[cfg_attr(x, unsafe(no_mangle))]\nfn f() {}", 1);
}

#[test]
fn unsafe_code_in_a_macro_is_found() {
    assert_unsafe("fn f() { vec![\n    unsafe { g() }] }", 2);
    assert_unsafe("macro_rules! m {\n    () => { unsafe { g() } };\n}", 2);
}

#[test]
fn the_word_unsafe_is_not_unsafe_code() {
    let text =
        "// unsafe { f() }\n#![deny(unsafe_code)]\nfn f() { g(\"unsafe { f() }\", unsafe_too) }";
    assert_eq!(broken(&[("src/task.rs", text)]), Vec::<String>::new());
}
