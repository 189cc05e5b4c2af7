//! The output of `lookout exits`.

use super::{
    gap::gap_text,
    names::{container_name, short_id},
    rows::RowStream,
    table::{Column, Table, or_dash},
    time::{time_cell, times_fitted},
};
use crate::{
    api::{Container, Event, Exit, event::Body},
    cli::{args::Format, output::Style},
    client::json,
    model::printable,
};

const COLUMNS: [Column; 5] = [
    Column::new("TIME", 12),
    Column::new("CONTAINER", 20).least(12),
    Column::new("EXEC", 16).least(10).rank(1),
    Column::new("PID", 7),
    Column::last("STATUS"),
];

/// Formats the rows of `lookout exits`, one by one.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ExitRows(RowStream);

impl ExitRows {
    pub(in crate::cli) fn new(format: Format, style: Style) -> Self {
        Self(RowStream::new(format, style, |format| {
            let style = if *format == Format::Wide { style.uncut() } else { style };
            Table::of_stream(&times_fitted(COLUMNS, style), style)
        }))
    }

    /// The text before the first row.
    pub(in crate::cli) fn header(&self) -> String {
        self.0.header()
    }

    /// The text after the last row.
    pub(in crate::cli) fn footer(&self) -> &'static str {
        self.0.footer()
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Formats one exit in a container.
    pub(in crate::cli) fn format(&mut self, exit: &Exit, container: &Container) -> String {
        let text = match &self.0.format {
            Format::Table | Format::Wide if self.0.style.is_quiet => format!("{}\n", exit.pid),
            Format::Table | Format::Wide => {
                let exec = printable::safe_text(exit.exec_id.as_bytes());
                let status = status_text(exit.status);
                let row = [exec, exit.pid.to_string(), status];
                let line = self.line(exit.timestamp_ns, container, row);
                let line = match exit.status {
                    0 => line,
                    _ => self.0.style.highlight_failure(line),
                };
                self.0.dates.before(exit.timestamp_ns) + &line + "\n"
            }
            _ => self.0.object(&json::ExitObject::new(exit, &container.namespace)),
        };
        self.0.note(text)
    }

    /// Formats an event as a row among the exits if it is a gap; otherwise the text is empty.
    pub(in crate::cli) fn format_gap(&mut self, event: &Event) -> String {
        let Some(Body::Gap(gap)) = &event.body else { return String::new() };
        let text = match &self.0.format {
            Format::Table | Format::Wide => {
                let row = [String::new(), String::new(), gap_text(gap)];
                let line = self.line(event.time_ns, event.container.get_or_default(), row);
                self.0.dates.before(event.time_ns) + &self.0.style.highlight_failure(line) + "\n"
            }
            _ => self.0.object(&json::Event::from(event)),
        };
        self.0.note(text)
    }

    fn line(&self, time_ns: u64, container: &Container, [exec, pid, what]: [String; 3]) -> String {
        let mut name = container_name(container, self.0.style);
        if self.0.format == Format::Wide {
            let namespace = printable::safe_text(container.namespace.as_bytes());
            name = format!("{namespace}/{}", short_id(&container.id, Style::default()));
        }
        let time = time_cell(time_ns, &self.0.table, self.0.style);
        self.0.table.row(&[time, name, exec, pid, what].map(or_dash))
    }
}

/// A status with the signal that it stands for.
fn status_text(status: u32) -> String {
    let signal = status.checked_sub(128).and_then(|signal| i32::try_from(signal).ok());
    match signal.and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok()) {
        Some(signal) => format!("{status} ({})", signal.as_str()),
        None => status.to_string(),
    }
}
