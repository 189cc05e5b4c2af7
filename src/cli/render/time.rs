//! The column of times in tables of which the rows are printed as they come, and the lines with
//! their dates.

use jiff::civil::Date;

use super::table::{Column, Table};
use crate::cli::output::Style;

/// The width of a terminal below which times have no milliseconds.
const MILLISECONDS_FROM: usize = 100;
/// The widths of `14:03:05`, and of a complete time.
const SECONDS_WIDTH: usize = 8;
const COMPLETE_WIDTH: usize = 30;

/// The columns of a table, of which the first one has the time, fitted to the clock and the
/// terminal.
pub(super) fn times_fitted<const N: usize>(mut columns: [Column; N], style: Style) -> [Column; N] {
    let width = match style.width {
        Some(width) if width < MILLISECONDS_FROM => SECONDS_WIDTH,
        _ if style.clock.is_complete() => COMPLETE_WIDTH,
        _ => SECONDS_WIDTH + ".000".len(),
    };
    columns[0] = Column::new(style.clock.title(), width);
    columns
}

/// A time in the first column of such a table.
pub(super) fn time_cell(time_ns: u64, table: &Table, style: Style) -> String {
    let time = style.clock.time(time_ns);
    match table.width_of(0) {
        Some(SECONDS_WIDTH) => time.get(..SECONDS_WIDTH).unwrap_or(&time).to_owned(),
        _ => time,
    }
}

/// Prints the date on a line of its own when it changes, if rows have only the time of day.
#[derive(Debug, Clone)]
pub(super) struct DateLines {
    style: Style,
    /// The date of the last row; in the beginning today's, which needs no line.
    date: Option<Date>,
}

impl DateLines {
    pub(super) fn new(style: Style) -> Self {
        Self { style, date: style.clock.today() }
    }

    /// The line before a row with this time; empty if the row before it has the same date.
    pub(super) fn before(&mut self, time_ns: u64) -> String {
        let date = self.style.clock.date(time_ns);
        if date == self.date || self.style.is_quiet {
            return String::new();
        }
        self.date = date;
        date.map_or_else(String::new, |date| format!("-- {date} --\n"))
    }
}
