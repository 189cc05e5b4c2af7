//! Writes `docs/reference` and `docs/schema` from the tables and types in the code.
//!
//! `hack/gen` runs this module as a test that writes the files. Without `UPDATE_DOCS` in the
//! environment the test only compares. No program contains this module.

mod commands;
mod config;
mod events;
mod metrics;

use std::{collections::HashSet, fs, path::Path};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::args::Cli, config::Key, model::EVENT_TYPES};

/// Check that each generated file is what the code would write, and that there are no other files.
/// With `UPDATE_DOCS=1` in the environment the files are written anew.
#[test]
fn the_generated_files_are_current() {
    let files = [
        ("docs/reference/cli.md", commands::page()),
        ("docs/reference/config.md", config::page()),
        ("docs/reference/events.md", events::page()),
        ("docs/reference/metrics.md", metrics::page()),
        ("docs/schema/event.schema.json", events::schema_text()),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut stale = Vec::new();
    for (name, text) in &files {
        let path = root.join(name);
        if is_update {
            fs::write(&path, text).expect("a writable file");
        } else if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            stale.push((*name).to_owned());
        }
    }
    for directory in ["docs/reference", "docs/schema"] {
        for entry in fs::read_dir(root.join(directory)).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            let name = format!("{directory}/{}", name.to_str().expect("UTF-8"));
            if !files.iter().any(|(known, _)| *known == name) {
                stale.push(name);
            }
        }
    }
    assert!(stale.is_empty(), "not what the code would write; run hack/gen: {stale:?}");
}

/// Check that the completion knows every event type and every key, also one that was just added.
#[test]
fn the_completion_has_every_type_and_key() {
    let mut script = Vec::new();
    clap_complete::generate(Shell::Bash, &mut Cli::command(), "lookout", &mut script);
    let script = String::from_utf8(script).expect("UTF-8");
    let words: HashSet<&str> = script.split(|it: char| it.is_whitespace() || it == '"').collect();
    for name in EVENT_TYPES.into_iter().chain(Key::ALL.map(Key::as_str)) {
        assert!(words.contains(name), "{name} is not in the completion");
    }
}

/// The title of a generated page, and the comment that it is generated.
fn page_head(title: &str) -> String {
    format!("# {title}\n\n<!-- Written by hack/gen. Edit the table in the code instead. -->\n\n")
}

/// A table of Markdown. The first row has the names of the columns.
fn markdown_table<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(N));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.map(|cell| one_line(&cell)).join(" | ")));
    }
    text
}

/// A text as one line of a table: without line breaks, and with no bar that would end the cell.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn as_code(text: &str) -> String {
    format!("`{text}`")
}
