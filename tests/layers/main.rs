//! Keeps the layers: a module names only modules below it.
//!
//! The source is read as syntax trees, so it does not matter how a module is named: by an import, a
//! glob, another name, `super`, in a type, or inside a macro. Tests within the source count: they
//! may name what their module may name. Why a test does this and not the compiler:
//! `docs/design/0006-layers-by-a-test.md`.
//!
//! [`tree`] finds the modules; [`items`], [`scope`] and [`names`] say what a name stands for;
//! [`paths`] and [`tokens`] find what is named, [`rules`] judges it; [`planted`] breaks each rule
//! on purpose, and [`cycles`] lists what no rule forbids yet.

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
    May::{self, Name},
    Rules,
};

/// Each module, from top to bottom, and which of those below it it may name: a list, or
/// `NameAllBelow`. What programs may name is the row `bin`; `lib.rs` may name all.
const LAYERS: &[(&str, May)] = &[
    ("bin", Name("cli shim")),
    ("cli", Name("daemon client registry observe config api platform sys model")),
    (
        "daemon",
        Name(
            "client registry observe config accept log registration api platform linux sys clock model",
        ),
    ),
    ("client", Name("registry config registration api platform clock wire model")),
    ("registry", Name("observe api platform linux sys clock model")),
    (
        "shim",
        Name(
            "task bundle runc reaper observe publish config accept log api platform linux sys model",
        ),
    ),
    ("task", Name("bundle runc reaper publish linux sys model")),
    ("bundle", Name("runc model")),
    ("runc", Name("reaper sys model")),
    ("reaper", Name("sys model")),
    ("observe", Name("publish config registration api platform linux sys clock wire model")),
    ("publish", Name("sys model")),
    ("config", Name("model")),
    ("accept", Name("")),
    ("log", Name("clock model")),
    ("registration", Name("platform")),
    ("platform", Name("linux sys clock model")),
    ("linux", Name("sys clock model")),
    ("api", Name("")),
    ("sys", Name("")),
    ("clock", Name("")),
    ("wire", Name("")),
    ("model", Name("")),
];

/// Which parts of the source may not name which others, though their modules may. A path stands for
/// all that is inside it, on both sides.
const INSIDE: &[(&str, &str)] = &[
    // The tracker is pure: it is given records, wherever they come from.
    ("observe::track", "observe::pipeline observe::shim observe::library linux platform"),
    // The pipeline serves the shim and the library, and knows neither.
    ("observe::pipeline", "observe::shim observe::library linux"),
    ("observe::stream", "observe::pipeline observe::shim observe::library linux platform"),
    ("observe::source", "observe::pipeline observe::shim observe::library"),
    ("observe::library", "observe::shim linux"),
    ("observe::redact", "observe::source observe::pipeline observe::shim linux platform"),
    // What is decided about entries is pure.
    ("registry::entries", "registry::store registry::owner linux platform"),
];

const RULES: Rules = Rules { layers: LAYERS, inside: INSIDE, unsafe_in: "sys" };

/// What this package's source names. Reading it takes seconds, so it is read once.
static FOUND: LazyLock<Findings> = LazyLock::new(|| {
    Findings::of(&tree::read(Path::new(env!("CARGO_MANIFEST_DIR")), "src"), "lookout")
});

/// Check that no module names one that its row does not allow, that only `sys` has unsafe code, and
/// that there is no file which this test does not see.
#[test]
fn a_module_names_only_what_is_below_it() {
    let broken = RULES.broken_in(&FOUND);
    assert!(broken.is_empty(), "LAYERS or INSIDE forbids this:\n{}", broken.join("\n"));
}

/// Check that the tables are about this source, and that no row names a row above it.
#[test]
fn each_module_has_a_row_and_each_row_a_module() {
    let faults = RULES.faults_of_tables(&FOUND);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Check that the source was read at all.
#[test]
fn the_source_is_where_it_is_looked_for() {
    assert!(FOUND.modules.len() > 100, "only {} modules", FOUND.modules.len());
}
