//! Checks events as JSON against `docs/schema/event.schema.json`.
//!
//! The harnesses of `tests/shim` and `tests/cli` call this for every output of `lookout` and for
//! the daemon's `stream.jsonl`, whatever a test reads of them, so that no test can forget it.

use std::{cell::OnceCell, fs, path::Path};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// Panics if an event in the output of a command is not as the schema says. Returns the lines that
/// are JSON.
#[track_caller]
pub(crate) fn assert_output_fits(output: &str) -> Vec<Value> {
    output.lines().filter_map(assert_line_fits).collect()
}

/// As [`assert_output_fits`], for one line. A line of an array has an element and its comma. An
/// object without a `type` is a row of a list, or the page of a container, which has `events`.
#[track_caller]
pub(crate) fn assert_line_fits(line: &str) -> Option<Value> {
    let row = serde_json::from_str(line.trim_end().trim_end_matches(',')).ok()?;
    assert_row_fits(&row);
    Some(row)
}

/// Panics if a line of the daemon's stream in this directory, or of the file before it, is neither
/// an event as the schema says nor one of the two lines that docs/daemon.md describes beside
/// events.
#[track_caller]
pub(crate) fn assert_stream_fits(directory: &Path) {
    for name in ["stream.jsonl.1", "stream.jsonl"] {
        let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
        // A daemon that was killed may have left a part of a line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| {
                panic!("{name} has a line that is no JSON, {error}: {line}")
            });
            let object = line.as_object().expect("a line of the stream is an object");
            let fields: Vec<&str> = object.keys().map(String::as_str).collect();
            match line["type"].as_str().expect("each line of the stream has a type") {
                "stream.begin" => {
                    let cursors = line["cursors"].as_object().expect("the cursors of the shims");
                    assert!(cursors.values().all(Value::is_u64), "{line}");
                    assert_eq!(fields, ["cursors", "type"], "{line}");
                }
                "shim.left" => {
                    assert!(line["epoch"].is_string(), "{line}");
                    assert_eq!(fields, ["epoch", "type"], "{line}");
                }
                _ => assert_event_fits(&line),
            }
        }
    }
}

#[track_caller]
fn assert_row_fits(row: &Value) {
    if row["type"].is_string() {
        assert_event_fits(row);
    }
    // An array on one line; the page of `lookout inspect`.
    row.as_array().into_iter().flatten().for_each(assert_row_fits);
    row["events"].as_array().into_iter().flatten().for_each(assert_event_fits);
}

#[track_caller]
fn assert_event_fits(event: &Value) {
    thread_local! {
        static SCHEMA: OnceCell<(Schemas, SchemaIndex)> = const { OnceCell::new() };
    }
    SCHEMA.with(|schema| {
        let (schemas, index) = schema.get_or_init(|| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/event.schema.json");
            let mut schemas = Schemas::new();
            let index = Compiler::new().compile(path, &mut schemas).expect("a valid schema");
            (schemas, index)
        });
        if let Err(error) = schemas.validate(event, *index) {
            panic!("{event} is not as docs/schema says: {error:#}");
        }
    });
}
