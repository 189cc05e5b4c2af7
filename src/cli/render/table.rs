//! Aligns the rows of a table in columns, within the width of the terminal.
//!
//! A column that finds no room gets narrower, and its texts are cut; then the columns that matter
//! least are left out. The last column gets what is left, and never nothing: it shows what
//! happened. Widths are those that a terminal shows, so that CJK and combining characters align.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr as _;

use crate::cli::{
    output::Style,
    width::{Cut, cut},
};

/// The blanks between two columns.
const GAP: usize = 2;
/// The fewest columns of a terminal that the last column gets, and how many it gets before others
/// get more than their least.
const LAST_WIDTHS: (usize, usize) = (22, 40);

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Column {
    title: &'static str,
    /// The width to which it may shrink.
    least: usize,
    /// The width in a table of which later rows are not known yet.
    usual: usize,
    /// The order in which columns are left out: the highest first, and never those with 0.
    rank: u8,
    is_right: bool,
    cut: Cut,
}

impl Column {
    /// A column that always has this width where later rows are not known.
    pub(in crate::cli) const fn new(title: &'static str, usual: usize) -> Self {
        Self { title, least: usual, usual, rank: 0, is_right: false, cut: Cut::End }
    }

    /// The column may shrink to this width. Its texts are cut in the middle.
    pub(in crate::cli) const fn least(self, least: usize) -> Self {
        Self { least, cut: Cut::Middle, ..self }
    }

    /// The column is left out if there is no room, before all columns of a lower rank.
    pub(in crate::cli) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// The column has numbers.
    pub(in crate::cli) const fn right(self) -> Self {
        Self { is_right: true, ..self }
    }

    /// The last column, which gets the rest of the line.
    pub(in crate::cli) const fn last(title: &'static str) -> Self {
        Self::new(title, LAST_WIDTHS.1).least(LAST_WIDTHS.0)
    }
}

/// The columns of a table with their widths.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Table {
    columns: Vec<Column>,
    /// The width of each column; `None` if the column is left out. The last one is at most as wide
    /// as this.
    widths: Vec<Option<usize>>,
    style: Style,
}

impl Table {
    /// A table of which rows are printed before later ones are known.
    pub(in crate::cli) fn of_stream(columns: &[Column], style: Style) -> Self {
        let mut usual: Vec<usize> = columns.iter().map(|column| column.usual).collect();
        if let Some(last) = usual.last_mut() {
            *last = usize::MAX;
        }
        Self::with_widths(columns, &usual, style)
    }

    /// A table of which all rows are known. Each column is as wide as its widest cell, if there is
    /// room.
    pub(in crate::cli) fn of_rows(columns: &[Column], rows: &[Vec<String>], style: Style) -> Self {
        let title = |column: &Column| if style.is_quiet { 0 } else { column.title.width() };
        let mut widths: Vec<usize> = columns.iter().map(title).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        Self::with_widths(columns, &widths, style)
    }

    /// Fits columns that should be this wide into the terminal.
    fn with_widths(columns: &[Column], wanted: &[usize], style: Style) -> Self {
        let mut widths: Vec<Option<usize>> = wanted.iter().copied().map(Some).collect();
        if let Some(available) = style.width {
            let least = |at: usize| columns[at].least.min(wanted[at]);
            let needed = |widths: &[Option<usize>]| {
                let shown = widths.iter().flatten().count();
                let shown_least = (0..widths.len()).filter(|&at| widths[at].is_some()).map(least);
                shown_least.sum::<usize>() + GAP * shown.saturating_sub(1)
            };
            while needed(&widths) > available {
                let left = (0..columns.len()).filter(|&at| widths[at].is_some());
                let worst = left.max_by_key(|&at| columns[at].rank);
                match worst.filter(|&at| columns[at].rank > 0) {
                    Some(worst) => widths[worst] = None,
                    None => break,
                }
            }
            let mut spare = available.saturating_sub(needed(&widths));
            let mut given: Vec<usize> = (0..columns.len()).map(least).collect();
            let last = columns.len().saturating_sub(1);
            // The last column gets a part before the others, and what they leave.
            let goals = [(last, LAST_WIDTHS.1)].into_iter();
            for (at, goal) in goals.chain((0..columns.len()).map(|at| (at, usize::MAX))) {
                if widths[at].is_some() {
                    let more = wanted[at].min(goal).saturating_sub(given[at]).min(spare);
                    given[at] += more;
                    spare -= more;
                }
            }
            for (width, given) in widths.iter_mut().zip(given) {
                *width = width.map(|_| given);
            }
        }
        Self { columns: columns.to_vec(), widths, style }
    }

    /// The line with the titles; empty with `--quiet`.
    pub(in crate::cli) fn header(&self) -> String {
        if self.style.is_quiet {
            return String::new();
        }
        let titles: Vec<String> =
            self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.row(&titles) + "\n"
    }

    /// One line, without its end. The caller has escaped the cells.
    pub(in crate::cli) fn row(&self, cells: &[String]) -> String {
        let mut line = String::new();
        let last = self.widths.iter().rposition(Option::is_some).unwrap_or_default();
        for (at, cell) in cells.iter().enumerate() {
            let (Some(column), Some(Some(width))) = (self.columns.get(at), self.widths.get(at))
            else {
                continue;
            };
            let text = match self.style.width {
                Some(_) => cut(cell, *width, column.cut),
                // A pipe gets complete texts, which shift the following cells.
                None => Cow::Borrowed(cell.as_str()),
            };
            let padding = width.saturating_sub(text.width()).min(usize::from(u16::MAX));
            let blanks = |count: usize| std::iter::repeat_n(' ', count);
            if column.is_right {
                line.extend(blanks(padding));
            }
            line.push_str(&text);
            if at < last {
                line.extend(blanks(if column.is_right { GAP } else { padding + GAP }));
            }
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// The width of a column; `None` if it is left out.
    pub(in crate::cli) fn width_of(&self, column: usize) -> Option<usize> {
        self.widths.get(column).copied().flatten()
    }

    /// The header and all rows.
    pub(in crate::cli) fn page(&self, rows: &[Vec<String>]) -> String {
        rows.iter().fold(self.header(), |text, row| text + &self.row(row) + "\n")
    }
}

/// Formats a table of which every column is as wide as its widest cell. If there is no room, the
/// columns get narrower, and then those on the right are left out, but not the last one.
pub(in crate::cli) fn align_columns(
    header: &[&'static str],
    rows: &[Vec<String>],
    style: Style,
) -> String {
    let last = header.len().saturating_sub(1);
    let columns: Vec<Column> = header
        .iter()
        .enumerate()
        .map(|(at, title)| match at == last {
            true => Column::last(title),
            false => {
                let column = Column::new(title, title.width()).least(title.width().max(8));
                // The first two identify a row.
                column.rank(u8::try_from(at.saturating_sub(1)).unwrap_or(u8::MAX))
            }
        })
        .collect();
    Table::of_rows(&columns, rows, style).page(rows)
}

/// Replaces an empty cell by `-`, so that every row has the same number of fields for tools such as
/// awk.
pub(in crate::cli) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("TIME", 12).rank(1),
        Column::new("CONTAINER", 20).least(12),
        Column::new("PID", 7).right().rank(2),
        Column::last("WHAT"),
    ];

    fn style(width: usize) -> Style {
        Style { width: Some(width), ..Style::default() }
    }

    fn cells(texts: [&str; 4]) -> Vec<String> {
        texts.map(str::to_owned).to_vec()
    }

    /// Check that a column shrinks before another is left out, and that the last one keeps a part.
    #[test]
    fn a_narrow_terminal_keeps_what_matters() {
        let row =
            cells(["12:00:00.000", "a-container-with-a-name", "4211", "make -j8 all install"]);
        let at = |width| Table::of_stream(&COLUMNS, style(width)).row(&row);
        assert_eq!(at(90), "12:00:00.000  a-container-w…a-name     4211  make -j8 all install");
        assert_eq!(at(61), "12:00:00.000  a-contai…ame     4211  make -j8 all install");
        assert_eq!(at(52), "12:00:00.000  a-contai…ame  make -j8 all install");
        assert_eq!(at(40), "a-contai…ame  make -j8 all install");
    }

    /// Check that CJK takes two columns, and that a pipe gets everything.
    #[test]
    fn widths_are_those_of_a_terminal() {
        let rows = [cells(["1", "容器", "2", "x"]), cells(["1", "web", "22", "y"])];
        let table = Table::of_rows(&COLUMNS, &rows, Style::default());
        assert_eq!(
            table.page(&rows),
            "TIME  CONTAINER  PID  WHAT\n1     容器         2  x\n1     web         22  y\n"
        );
        assert_eq!(cut("容器容器容器", 5, Cut::End), "容器…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}e\u{301}", 3, Cut::End), "e\u{301}e\u{301}…");
    }

    proptest! {
        /// Check that no line is wider than the terminal, and that a text in the last column shows
        /// at least its beginning, for any texts.
        #[test]
        fn a_line_fits(
            texts in proptest::collection::vec("[a-z容é ]{0,80}", 4),
            width in 40_usize..200,
        ) {
            let mut texts = texts;
            texts[3].insert_str(0, "what");
            for table in [
                Table::of_stream(&COLUMNS, style(width)),
                Table::of_rows(&COLUMNS, std::slice::from_ref(&texts), style(width)),
            ] {
                let line = table.row(&texts);
                prop_assert!(line.width() <= width, "{} columns: {line}", line.width());
                prop_assert!(line.contains("what"), "{line}");
            }
        }
    }
}
