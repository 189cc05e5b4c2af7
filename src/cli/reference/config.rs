//! The page of the configuration, from the table of keys.

use super::{code, head, table};
use crate::config::{AnnotationUse, Key, Settings};

pub(super) fn page() -> String {
    let defaults = Settings::default();
    let rows = Key::ALL.map(|key| {
        let default = defaults.show(key);
        [
            code(key.as_str()),
            key.expected().to_owned(),
            if default.is_empty() { "none".to_owned() } else { code(&default) },
            by_options(key).to_owned(),
            by_annotations(key).to_owned(),
            key.doc().to_owned(),
        ]
    });
    let columns = ["key", "value", "default", "options", "annotations", "what it decides"];
    head("Configuration keys")
        + "In a file a key has the name below, in the environment `LOOKOUT_` and the name in \
           capitals, in an\nannotation `io.lookout.` and the name. The columns \"options\" and \
           \"annotations\" say what the runtime options\nand the annotations of a container may do \
           with the host's value. They cannot change a key that the host's\n`locked` names. How \
           the places follow each other is in [operations](../operations.md#configuration).\n\n"
        + &table(columns, rows)
}

fn by_options(key: Key) -> &'static str {
    match key.annotation() {
        _ if key.is_host_only() => "no",
        AnnotationUse::Adds => "add",
        AnnotationUse::Stricter => "only stricter",
        AnnotationUse::Free | AnnotationUse::IfAllowed | AnnotationUse::Never => "yes",
    }
}

fn by_annotations(key: Key) -> &'static str {
    match key.annotation() {
        AnnotationUse::Free => "yes",
        AnnotationUse::Stricter => "only stricter",
        AnnotationUse::IfAllowed => "if `allow` names the key",
        AnnotationUse::Adds => "add 16, more if `allow` names the key",
        AnnotationUse::Never => "no",
    }
}
