//! Draws the rows of processes: a table of which the last column has the tree.

use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style as CellStyle},
};
use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthStr as _;

use super::{fill, line, size, title_style};
use crate::cli::{
    clock::short_duration,
    output::Style,
    render::{
        table::{Column, Table, or_dash},
        tree::lines,
        usage::size_text,
    },
    top::{state::State, tree::Row},
    width::cut_middle,
};

const COLUMNS: [Column; 9] = [
    Column::new("PID", 7).right(),
    Column::new("USER", 5).least(5).rank(4),
    Column::new("CPU %", 6).right(),
    Column::new("RSS", 5).right(),
    Column::new("READ/s", 6).right().rank(3),
    Column::new("WRITE/s", 7).right().rank(2),
    Column::new("AGE", 6).right().rank(5),
    Column::new("PORTS", 12).least(9).rank(1),
    // A command and its tree need more than another column.
    Column::last("COMMAND").least(25),
];

/// The largest part of the last column that the lines of the tree take: one half.
const TREE_PART: usize = 2;

/// Draws the titles above `at`, and the rows from `at` on.
pub(super) fn draw(
    state: &State,
    style: Style,
    buffer: &mut Buffer,
    area: Rect,
    at: u16,
    count: u16,
) {
    let table = Table::of_stream(&COLUMNS, style);
    line(buffer, area, at - 1, table.header().trim_end(), title_style());
    fill(buffer, area, at - 1, title_style());
    let shown = state.rows.iter().enumerate().skip(state.first).take(usize::from(count));
    for (line_at, (index, row)) in (at..).zip(shown) {
        let is_group = row.parent.is_none() && row.item.pid == 0;
        let mut cell_style = CellStyle::new();
        if is_group {
            cell_style = cell_style.add_modifier(Modifier::BOLD);
        }
        if index == state.selected {
            cell_style = cell_style.add_modifier(Modifier::REVERSED);
        }
        line(buffer, area, line_at, &table.row(&cells(state, &table, row, style)), cell_style);
        if index == state.selected {
            fill(buffer, area, line_at, cell_style);
        }
    }
}

fn cells(state: &State, table: &Table, row: &Row, style: Style) -> Vec<String> {
    let (item, used) = (&row.item, &row.item.used);
    let number = |number: i32| if number == 0 { String::new() } else { number.to_string() };
    let rate = |rate: Option<f64>| rate.map_or_else(String::new, |rate| size_text(whole(rate)));
    let age = (item.pid != 0 && item.created_ns > 0)
        .then(|| short_duration(state.now_ns.saturating_sub(item.created_ns)));
    // What is left of the line for the command.
    let left: usize =
        (0..COLUMNS.len() - 1).filter_map(|at| table.width_of(at)).map(|width| width + 2).sum();
    let width = style.width.unwrap_or(usize::MAX).saturating_sub(left);
    [
        number(item.pid),
        item.user.clone(),
        used.cpu.map_or_else(String::new, |cpu| format!("{:.1}", cpu * 100.0)),
        size(used.rss_bytes),
        rate(used.read),
        rate(used.written),
        age.unwrap_or_default(),
        item.ports.clone(),
        command(state, row, width, style),
    ]
    .map(or_dash)
    .to_vec()
}

/// The lines of the tree, what is folded, and the command, in this width.
fn command(state: &State, row: &Row, width: usize, style: Style) -> String {
    let mut tree = tree_lines(&state.rows, row, style);
    if tree.width() > width / TREE_PART {
        // A chain of processes can be deeper than the terminal is wide.
        tree = format!("…{}", tree.unicode_truncate_start(width / TREE_PART).0);
    }
    let folded = match row.folded {
        0 => String::new(),
        count => format!("[+{count}] "),
    };
    let left = width.saturating_sub(tree.width() + folded.width());
    format!("{tree}{folded}{}", cut_middle(&row.item.command, left))
}

/// The lines that connect a process with its parent, from the left.
fn tree_lines(rows: &[Row], row: &Row, style: Style) -> String {
    let lines = lines(style);
    let Some(mut parent) = row.parent else { return String::new() };
    let mut parts = vec![if row.is_last { lines.last } else { lines.branch }];
    while let Some(above) = rows.get(parent)
        && let Some(next) = above.parent
    {
        parts.push(if above.is_last { "   " } else { lines.beside });
        parent = next;
    }
    parts.iter().rev().copied().collect()
}

/// A rate in whole bytes.
fn whole(rate: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates, and the rate is only displayed"
    )]
    let whole = rate as u64;
    whole
}
