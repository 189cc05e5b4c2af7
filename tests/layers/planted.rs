//! Tests of the checker itself: each way to break a rule, planted in a small source tree in memory,
//! and code that only looks like a violation.
//!
//! The planted modules are, from top to bottom, `shim`, `task`, `observe` with `track` and `source`
//! inside, and `sys`. `task` and `observe` may name `sys` only, so most plants are in `task` and
//! name `shim`.

mod circles;
mod imports;
mod innocent;
mod macros;
mod modules;
mod syntax;
mod tables;
mod unsafety;

use crate::{
    paths::Findings,
    rules::{May, Rules},
    tree::Source,
};

const RULES: Rules = Rules {
    layers: &[
        ("bin", May::Name("shim")),
        ("shim", May::NameAllBelow),
        ("task", May::Name("sys")),
        ("observe", May::Name("sys")),
        ("sys", May::Name("")),
    ],
    inside: &[("observe::track", "observe::source")],
    unsafe_in: "sys",
};

const FILES: &[(&str, &str)] = &[
    ("src/lib.rs", "mod shim; mod task; mod observe; mod sys;"),
    ("src/shim.rs", ""),
    ("src/task.rs", ""),
    ("src/observe.rs", "mod track; mod source;"),
    ("src/observe/track.rs", ""),
    ("src/observe/source.rs", ""),
    ("src/sys.rs", ""),
];

/// The findings in the planted source with these files added, or in place of those above.
fn found(files: &[(&str, &str)]) -> Findings {
    let files = FILES.iter().chain(files);
    let source: Source =
        files.map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    Findings::of(&source, "lookout")
}

/// The violations in the planted source with these files.
fn broken(files: &[(&str, &str)]) -> Vec<String> {
    RULES.broken_in(&found(files))
}

/// Asserts that `task.rs` with this text names `shim` in exactly these lines.
#[track_caller]
fn assert_names_shim(text: &str, lines: &[usize]) {
    let expected: Vec<String> =
        lines.iter().map(|line| format!("src/task.rs:{line}: task names shim")).collect();
    assert_eq!(broken(&[("src/task.rs", text)]), expected, "{text}");
}
