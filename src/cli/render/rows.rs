//! Lists and streams of rows in each format, and the formats that are made from the JSON form of a
//! row: YAML and chosen columns.

use serde::Serialize;
use serde_json::Value;

use super::{
    table::{Column, Table, or_dash},
    time::DateLines,
};
use crate::{
    cli::{
        args::{CustomColumn, Format},
        output::Style,
    },
    client::json,
    model::printable,
};

/// The width of a column of a stream; later rows may be wider.
const STREAM_WIDTH: usize = 16;

/// Formats a list in a format that is made from the JSON form of its rows; `None` for tables.
pub(in crate::cli) fn list_of_objects<T: Serialize>(
    objects: &[T],
    format: &Format,
    style: Style,
) -> Option<String> {
    let lines = |line: fn(&T) -> String| objects.iter().map(line).collect::<String>();
    match format {
        Format::Table | Format::Wide => None,
        Format::Json => Some(json::to_line(&objects) + "\n"),
        Format::Jsonl | Format::Probe => Some(lines(|object| json::to_line(object) + "\n")),
        #[cfg(feature = "expressions")]
        Format::Yaml => Some(lines(|object| yaml_document(object))),
        Format::Columns(columns) => {
            let rows: Vec<Vec<String>> =
                objects.iter().map(|object| custom_cells(columns, object)).collect();
            let all: Vec<Vec<String>> = match style.is_quiet {
                true => rows,
                false => [vec![custom_titles(columns)], rows].concat(),
            };
            let columns = vec![Column::new("", 0).least(8); columns.len()];
            let table = Table::of_rows(&columns, &all, style.uncut());
            Some(all.iter().map(|row| table.row(row) + "\n").collect())
        }
    }
}

/// Rows that are printed as they come, in any format: what comes before, between and after them.
#[derive(Debug, Clone)]
pub(super) struct RowStream {
    pub(super) format: Format,
    pub(super) table: Table,
    pub(super) style: Style,
    pub(super) dates: DateLines,
    is_empty: bool,
}

impl RowStream {
    /// `table` makes the table of a format that has the columns of the command.
    pub(super) fn new(format: Format, style: Style, table: impl FnOnce(&Format) -> Table) -> Self {
        let table = match &format {
            Format::Columns(columns) => custom_table(columns, style),
            format => table(format),
        };
        Self { format, table, style, dates: DateLines::new(style), is_empty: true }
    }

    /// The text before the first row.
    pub(super) fn header(&self) -> String {
        match &self.format {
            Format::Table | Format::Wide => self.table.header(),
            Format::Columns(_) if self.style.is_quiet => String::new(),
            Format::Columns(columns) => self.table.row(&custom_titles(columns)) + "\n",
            Format::Json => "[".to_owned(),
            _ => String::new(),
        }
    }

    /// The text after the last row.
    pub(super) fn footer(&self) -> &'static str {
        match (&self.format, self.is_empty) {
            (Format::Json, true) => "]\n",
            (Format::Json, false) => "\n]\n",
            _ => "",
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Notes the text of a row, which can be empty, and returns it.
    pub(super) fn note(&mut self, text: String) -> String {
        self.is_empty &= text.is_empty();
        text
    }

    /// A row in a format that is made from its JSON form.
    pub(super) fn object(&self, object: &impl Serialize) -> String {
        match &self.format {
            Format::Json if self.is_empty => format!("\n{}", json::to_line(object)),
            Format::Json => format!(",\n{}", json::to_line(object)),
            #[cfg(feature = "expressions")]
            Format::Yaml => yaml_document(object),
            Format::Columns(columns) => self.table.row(&custom_cells(columns, object)) + "\n",
            _ => json::to_line(object) + "\n",
        }
    }
}

/// The table of chosen columns in a stream of rows.
fn custom_table(columns: &[CustomColumn], style: Style) -> Table {
    let columns: Vec<Column> = columns.iter().map(|_| Column::new("", STREAM_WIDTH)).collect();
    Table::of_stream(&columns, style.uncut())
}

/// The titles of chosen columns.
fn custom_titles(columns: &[CustomColumn]) -> Vec<String> {
    columns.iter().map(|column| column.title.clone()).collect()
}

/// The cells of chosen columns.
fn custom_cells(columns: &[CustomColumn], object: &impl Serialize) -> Vec<String> {
    let object = serde_json::to_value(object).unwrap_or_default();
    columns
        .iter()
        .map(|column| or_dash(column.path.of(&object).map_or_else(String::new, cell)))
        .collect()
}

/// A value as the text of a cell. Escaped.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable::safe_text(text.as_bytes()),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            printable::command_line(items.iter().filter_map(Value::as_str).map(str::as_bytes))
        }
        value => json::to_line(value),
    }
}

/// One object as a document of YAML. Characters that are unsafe to print are escaped: a JSON text
/// is a text of YAML too, and a text with such a character is written as JSON has it.
#[cfg(feature = "expressions")]
fn yaml_document(object: &impl Serialize) -> String {
    let text = serde_yaml_ng::to_string(&object).unwrap_or_default();
    let is_safe = |character: char| character == '\n' || !printable::is_unsafe_to_print(character);
    match text.chars().all(is_safe) {
        true => format!("---\n{text}"),
        false => format!("---\n{}\n", json::to_line(object)),
    }
}
