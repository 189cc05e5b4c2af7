//! The output of `lookout config show`.

use serde::Serialize;

use super::table::{align_columns, or_dash};
use crate::{
    cli::{args::PageFormat, output::Style},
    client::json,
    config::{Config, Key},
    model::printable,
};

#[derive(Serialize)]
struct KeyRow<'a> {
    key: &'a str,
    value: String,
    origin: String,
}

/// Formats configuration keys, each with its value and the origin of the value. Formats all keys if
/// `keys` is empty.
pub(in crate::cli) fn page(
    config: &Config,
    keys: &[String],
    format: PageFormat,
    style: Style,
) -> String {
    let is_wanted = |key: &Key| keys.is_empty() || keys.iter().any(|name| name == key.as_str());
    let rows: Vec<KeyRow<'_>> = Key::ALL
        .into_iter()
        .filter(is_wanted)
        .map(|key| KeyRow {
            key: key.as_str(),
            value: config.settings().show(key),
            origin: config.origin(key).to_string(),
        })
        .collect();
    match format {
        PageFormat::Json => json::to_line(&rows) + "\n",
        PageFormat::Table if style.is_quiet => {
            rows.iter().map(|row| format!("{}\n", row.key)).collect()
        }
        PageFormat::Table => {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|row| {
                    let value = or_dash(printable::safe_text(row.value.as_bytes()));
                    vec![row.key.to_owned(), value, printable::safe_text(row.origin.as_bytes())]
                })
                .collect();
            align_columns(&["KEY", "VALUE", "FROM"], &rows, style)
        }
    }
}
