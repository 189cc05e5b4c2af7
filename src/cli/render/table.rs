//! Columns.

use crate::cli::output::Style;

/// Rows under a header, each column as wide as its widest cell; the last is not padded. Cells are
/// harmless already.
pub(in crate::cli) fn columns(header: &[&str], rows: &[Vec<String>], style: Style) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&header).filter(|_| !style.is_quiet).chain(rows) {
        text.push_str(&style.fit(&padded(row, &widths)));
        text.push('\n');
    }
    text
}

/// One row in columns of fixed widths: a wider cell pushes the next.
pub(in crate::cli) fn padded(row: &[String], widths: &[usize]) -> String {
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

/// `-` for nothing, so that a column is never empty.
pub(in crate::cli) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
