//! Draws the boxes above the rows: the dialog for a signal, and the help.

use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style as CellStyle},
};
use unicode_width::UnicodeWidthStr as _;

use super::line;
use crate::cli::{
    top::dialog::{Dialog, Step},
    width::cut_middle,
};

/// The most columns of a box.
const WIDTH_MAX: u16 = 72;

/// The lines of the dialog.
pub(super) fn of_dialog(dialog: &Dialog) -> Vec<String> {
    let pid = dialog.key.pid;
    let mut lines = vec![format!("Send a signal to process {pid}"), String::new()];
    lines.push(dialog.command.clone());
    if !dialog.container.is_empty() {
        lines.push(format!("in {}", dialog.container));
    }
    lines.push(String::new());
    match dialog.step {
        Step::Choose | Step::Refused => {
            lines.push(format!("Signal: {}_", dialog.signal));
            lines.push(match dialog.step {
                Step::Refused => "There is no such signal.".to_owned(),
                _ => "Arrows choose, or type a name or a number.".to_owned(),
            });
            lines.push("Enter: continue   Esc: cancel".to_owned());
        }
        Step::Confirm(_) => {
            lines.push(format!("Send {} to process {pid}?", dialog.signal));
            lines.push("y: send   n: another signal   Esc: cancel".to_owned());
        }
        Step::Ended => {
            lines.push("The process has ended; nothing was sent.".to_owned());
            lines.push("Any key closes this.".to_owned());
        }
    }
    lines
}

/// The keys.
pub(super) fn help() -> Vec<String> {
    [
        "Keys",
        "",
        "up down pgup pgdn home end   select",
        "space                        fold or unfold",
        "left right                   fold, unfold",
        "enter, d                     details; < > scroll them",
        "e                            recent exits",
        "/                            filter; Esc removes it",
        "c m i                        sort by CPU, memory, I/O",
        "p a n                        sort by pid, age, name",
        "r                            reverse the order",
        "t                            tree or list",
        "k                            send a signal",
        "Ctrl-L                       draw again",
        "Ctrl-Z                       suspend",
        "q, Ctrl-C                    quit",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Draws lines in a box in the middle of the area. Long lines are cut in the middle.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, lines: &[String]) {
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let widest = lines.iter().map(|line| line.width()).max().unwrap_or_default();
    let widest = u16::try_from(widest).unwrap_or(u16::MAX).saturating_add(4);
    let width = widest.min(WIDTH_MAX).min(area.width);
    let inside = usize::from(width.saturating_sub(4));
    let frame = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let edge = format!("+{}+", "-".repeat(usize::from(width.saturating_sub(2))));
    let plain = CellStyle::new();
    for at in 0..height {
        for x in frame.x..frame.x + width {
            // Also removes the half of a wide character that the box covers.
            buffer[(x, frame.y + at)].reset();
        }
        let inner = usize::from(at).checked_sub(1).and_then(|at| lines.get(at));
        let text = match inner.filter(|_| at + 1 < height) {
            Some(text) => {
                let text = cut_middle(text, inside);
                let blanks = " ".repeat(inside.saturating_sub(text.width()));
                format!("| {text}{blanks} |")
            }
            None => edge.clone(),
        };
        let style = if at == 1 { plain.add_modifier(Modifier::BOLD) } else { plain };
        line(buffer, frame, at, &text, style);
    }
}
