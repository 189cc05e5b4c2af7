//! Generates docs/reference/config.md, from the table of configuration keys.

use super::{as_code, markdown_table, page_head};
use crate::config::{AnnotationUse, Key, Settings};

pub(super) fn page() -> String {
    let defaults = Settings::default();
    let rows = Key::ALL.map(|key| {
        let default = defaults.show(key);
        [
            as_code(key.as_str()),
            key.expected_value().to_owned(),
            if default.is_empty() { "none".to_owned() } else { as_code(&default) },
            options_cell(key).to_owned(),
            annotations_cell(key).to_owned(),
            key.doc().to_owned(),
        ]
    });
    let columns = ["key", "value", "default", "options", "annotations", "what it decides"];
    page_head("Configuration keys")
        + "In a file a key has the name below, in the environment `LOOKOUT_` and the name in \
           capitals, in an\nannotation `io.lookout.` and the name. The columns \"options\" and \
           \"annotations\" say what the runtime options\nand the annotations of a container may do \
           with the host's value. They cannot change a key that the host's\n`locked` names. How \
           the places follow each other is in [operations](../operations.md#configuration).\n\n"
        + &markdown_table(columns, rows)
}

fn options_cell(key: Key) -> &'static str {
    match key.annotation_use() {
        _ if key.is_host_only() => "no",
        AnnotationUse::Adds => "add",
        AnnotationUse::Stricter => "only stricter",
        AnnotationUse::Free | AnnotationUse::IfAllowed | AnnotationUse::Never => "yes",
    }
}

fn annotations_cell(key: Key) -> &'static str {
    match key.annotation_use() {
        AnnotationUse::Free => "yes",
        AnnotationUse::Stricter => "only stricter",
        AnnotationUse::IfAllowed => "if `allow` names the key",
        AnnotationUse::Adds => "add 16, more if `allow` names the key",
        AnnotationUse::Never => "no",
    }
}
