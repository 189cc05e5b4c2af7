//! Checks the layer rule: a module names only modules below it.
//!
//! The source is read as syntax trees, so it does not matter how a module is named: by an import, a
//! glob, an alias, `super`, in a type, or inside a macro. Unit tests inside the source count too:
//! they may name what their module may name. `docs/design/0006-layers-by-a-test.md` explains why a
//! test does this and not the compiler.
//!
//! [`tree`] finds the modules. [`items`], [`scope`] and [`names`] resolve names. [`paths`] and
//! [`tokens`] find the paths that a module names, and [`rules`] checks them. [`planted`] breaks
//! each rule on purpose. [`cycles`] finds parts of a module that
//! depend on each other in a circle.

mod cycles;
mod items;
mod names;
mod paths;
mod planted;
mod rules;
mod scope;
mod tokens;
mod tree;

use std::{path::Path, sync::LazyLock};

use paths::Findings;
use rules::{
    May::{self, Name, NameAllBelow},
    Rules,
};

/// Each module, from top to bottom, and which of the modules below it may be named there: a list,
/// or `NameAllBelow`. The row `bin` is for programs. `lib.rs` may name all modules.
const LAYERS: &[(&str, May)] = &[
    ("bin", Name("cli shim")),
    ("fuzzing", NameAllBelow),
    ("cli", Name("daemon client registry observe config api platform sys model")),
    (
        "daemon",
        Name(
            "client registry observe config accept log registration api platform linux sys \
             clock model",
        ),
    ),
    ("client", Name("registry config registration api platform clock wire model")),
    ("registry", Name("observe api platform linux sys clock model")),
    (
        "shim",
        Name(
            "task bundle runc reaper observe publish workers config accept log api platform \
             linux sys model",
        ),
    ),
    ("task", Name("bundle runc reaper publish workers linux sys model")),
    ("bundle", Name("runc sys model")),
    ("runc", Name("reaper workers sys model")),
    ("reaper", Name("sys model")),
    (
        "observe",
        Name("publish config registration api platform linux sys token_bucket clock wire model"),
    ),
    ("publish", Name("workers sys model")),
    ("workers", Name("sys")),
    ("config", Name("model")),
    ("accept", Name("")),
    ("log", Name("token_bucket clock model")),
    ("registration", Name("platform")),
    ("platform", Name("linux sys clock model")),
    ("linux", Name("sys clock model")),
    ("api", Name("")),
    ("sys", Name("")),
    ("token_bucket", Name("")),
    ("clock", Name("")),
    ("wire", Name("")),
    ("model", Name("")),
];

/// Parts of the source that may not name certain others, although the rows of their modules allow
/// it. A path stands for everything inside it, on both sides.
const INSIDE: &[(&str, &str)] = &[
    // The tracker is pure: it receives records and does not depend on any source of them.
    ("observe::track", "observe::pipeline observe::shim observe::library linux platform"),
    // The shim and the library both use the pipeline, so it depends on neither.
    ("observe::pipeline", "observe::shim observe::library linux"),
    ("observe::stream", "observe::pipeline observe::shim observe::library linux platform"),
    ("observe::source", "observe::pipeline observe::shim observe::library"),
    ("observe::library", "observe::shim linux"),
    ("observe::redact", "observe::source observe::pipeline observe::shim linux platform"),
    // Decisions about entries are pure.
    ("registry::entries", "registry::store registry::owner linux platform"),
];

const RULES: Rules = Rules { layers: LAYERS, inside: INSIDE, unsafe_in: "sys" };

/// All references in this package's source. Parsing takes seconds, so it is done once.
static FOUND: LazyLock<Findings> = LazyLock::new(|| {
    Findings::of(&tree::read(Path::new(env!("CARGO_MANIFEST_DIR")), "src"), "lookout")
});

/// Check that no module names another that its row does not allow, that only `sys` has unsafe code,
/// and that every source file is part of the module tree.
#[test]
fn a_module_names_only_what_is_below_it() {
    let broken = RULES.broken_in(&FOUND);
    assert!(broken.is_empty(), "LAYERS or INSIDE forbids this:\n{}", broken.join("\n"));
}

/// Check that each module has a row and each row a module, and that no row names a row above it.
#[test]
fn each_module_has_a_row_and_each_row_a_module() {
    let faults = RULES.faults_of_tables(&FOUND);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Check that the source was read: a wrong path would make all other checks pass.
#[test]
fn the_source_is_found() {
    assert!(FOUND.modules.len() > 100, "only {} modules", FOUND.modules.len());
}
