//! Draws a state. Pure: it writes cells into a buffer.
//!
//! All text that a container can choose is escaped when it comes here, and [`line`] cuts it at the
//! width of the terminal.

mod boxes;
mod details;
mod rows;

use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style as CellStyle},
    terminal::Frame,
};

use super::{
    layout::Pane,
    state::{Mode, State},
    usage::Used,
};
use crate::cli::{
    output::Style,
    render::usage::size_text,
    width::{cut_end, cut_middle},
};

/// The keys that the last line names, most important first.
const KEYS: &str = "q quit  k kill  / filter  space fold  enter details  e exits  t tree  \
                    c m i p a n sort  ? help";

/// Draws the whole state. `State::refresh` has been called.
pub(super) fn draw(state: &State, frame: &mut Frame) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let layout = state.layout();
    let style = Style { width: Some(usize::from(area.width)), ..state.style };
    let bold = CellStyle::new().add_modifier(Modifier::BOLD);
    line(buffer, area, 0, &summary(state), bold);
    let rows_at = 2;
    rows::draw(state, style, buffer, area, rows_at, layout.rows);
    let pane_at = rows_at + layout.rows;
    if layout.pane > 0 {
        let (title, lines) = match state.pane {
            Pane::Details => details::page(state, style, usize::from(layout.pane - 1)),
            _ => ("recent exits", exits(state, style, usize::from(layout.pane - 1))),
        };
        line(buffer, area, pane_at, title, title_style());
        fill(buffer, area, pane_at, title_style());
        for (at, (text, has_failed)) in (pane_at + 1..).zip(lines) {
            line(buffer, area, at, &text, failure_style(has_failed, style));
        }
    }
    let status_at = area.height.saturating_sub(2);
    if area.height > 3 {
        let (text, is_note) = status(state);
        // The end of a reason says what to do about it.
        let text = cut_middle(&text, usize::from(area.width));
        line(buffer, area, status_at, &text, failure_style(is_note, style));
        line(buffer, area, area.height - 1, KEYS, CellStyle::new().add_modifier(Modifier::DIM));
    }
    match &state.mode {
        Mode::Kill(dialog) => boxes::draw(buffer, area, &boxes::of_dialog(dialog)),
        Mode::Help => boxes::draw(buffer, area, &boxes::help()),
        Mode::List | Mode::Filter => {}
    }
}

/// What all processes use, and how the rows are arranged.
fn summary(state: &State) -> String {
    let mut used = Used::default();
    let mut processes = 0;
    for row in &state.rows {
        // The rows of groups have the sums of theirs.
        if row.parent.is_none() {
            used.add(row.item.used);
        }
        processes += row.folded + usize::from(row.item.pid != 0);
    }
    let arrangement = &state.arrangement;
    let cpu = used.cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{:.1}", cpu * 100.0));
    let title = if state.title.is_empty() { "" } else { " " };
    format!(
        "lookout top{title}{}: {processes} processes, {cpu} % CPU, {} resident, by {}{}{}",
        state.title,
        size(used.rss_bytes),
        order_name(state),
        if arrangement.is_reversed { " reversed" } else { "" },
        if arrangement.is_flat { ", flat" } else { "" },
    )
}

fn order_name(state: &State) -> &'static str {
    use crate::cli::args::registry::SortOrder;
    match state.arrangement.sort {
        SortOrder::Cpu => "CPU",
        SortOrder::Memory => "memory",
        SortOrder::Io => "I/O",
        SortOrder::Pid | SortOrder::Id => "pid",
        SortOrder::Age => "age",
        SortOrder::Name => "name",
    }
}

/// The line above the keys, and whether it reports that something is missing.
fn status(state: &State) -> (String, bool) {
    let arrangement = &state.arrangement;
    if matches!(state.mode, Mode::Filter) {
        return (format!("filter: {}_", arrangement.filter), false);
    }
    if let Some(result) = &state.result {
        return (result.clone(), false);
    }
    if !arrangement.filter.is_empty() {
        return (format!("filter: {} (Esc removes it)", arrangement.filter), false);
    }
    let is_empty = state.rows.is_empty();
    if let Some(note) = state.data.note(is_empty) {
        return (note.to_owned(), true);
    }
    let text = match (&state.data.scope, is_empty) {
        (None, _) => "connecting to the shims",
        (Some(_), true) => "no living processes: no container is watched, or none has a process",
        (Some(_), false) => "",
    };
    (text.to_owned(), false)
}

/// The last exits, newest first.
fn exits(state: &State, style: Style, count: usize) -> Vec<(String, bool)> {
    let newest = state.data.exits.iter().rev().take(count);
    let line = |exited: &super::data::Exited| {
        let time = style.clock.time(exited.time_ns);
        // Without the fraction of the second.
        let time = time.split_once('.').map_or(time.as_str(), |(seconds, _)| seconds);
        let container = cut_middle(&exited.container, 20);
        (format!("{time}  {container}  {}  {}", exited.pid, exited.what), exited.has_failed)
    };
    newest.map(line).collect()
}

/// A number of bytes; `-` if it is not known.
fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), size_text)
}

/// Writes a text into a line, cut at the width.
fn line(buffer: &mut Buffer, area: Rect, at: u16, text: &str, style: CellStyle) {
    if at < area.height {
        let text = cut_end(text, usize::from(area.width));
        buffer.set_stringn(area.x, area.y + at, text, usize::from(area.width), style);
    }
}

/// Gives a whole line a style.
fn fill(buffer: &mut Buffer, area: Rect, at: u16, style: CellStyle) {
    if at < area.height {
        buffer.set_style(Rect { y: area.y + at, height: 1, ..area }, style);
    }
}

fn title_style() -> CellStyle {
    CellStyle::new().add_modifier(Modifier::UNDERLINED)
}

fn failure_style(has_failed: bool, style: Style) -> CellStyle {
    match has_failed && style.is_coloured {
        true => CellStyle::new().fg(Color::Red),
        false => CellStyle::new(),
    }
}

#[cfg(test)]
mod tests;
