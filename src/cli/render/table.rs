//! Aligns the rows of a table in columns.

use crate::cli::output::Style;

/// Formats a table: a header and rows. Each column is as wide as its widest cell; the last column
/// is not padded. The caller has escaped the cells.
pub(in crate::cli) fn align_columns(header: &[&str], rows: &[Vec<String>], style: Style) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&header).filter(|_| !style.is_quiet).chain(rows) {
        text.push_str(&style.fit_to_width(&pad_row(row, &widths)));
        text.push('\n');
    }
    text
}

/// Formats one row in columns of fixed widths. A cell that is too wide shifts the following cells.
pub(in crate::cli) fn pad_row(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (index, cell) in row.iter().enumerate() {
        line.push_str(cell);
        let width = widths.get(index).copied().unwrap_or_default();
        if index + 1 < row.len() {
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
    }
    line
}

/// Replaces an empty cell by `-`, so that every row has the same number of fields for tools such as
/// awk.
pub(in crate::cli) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// An id, cut to the width of its column and ended by an ellipsis if it is longer.
pub(in crate::cli) fn shorten_id(id: &str, width: usize) -> String {
    if id.chars().count() <= width {
        id.to_owned()
    } else {
        id.chars().take(width - 1).chain(['…']).collect()
    }
}
