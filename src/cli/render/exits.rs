//! The output of `lookout exits`.

#[cfg(feature = "expressions")]
use super::rows::yaml_document;
use super::{
    gap::gap_text,
    names::{container_name, short_id},
    rows::{custom_cells, custom_table, custom_titles},
    table::{Column, Table, or_dash},
    time::{DateLines, time_cell, times_fitted},
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
pub(in crate::cli) struct ExitRows {
    format: Format,
    table: Table,
    style: Style,
    dates: DateLines,
    is_empty: bool,
}

impl ExitRows {
    pub(in crate::cli) fn new(format: Format, style: Style) -> Self {
        let table = match &format {
            Format::Columns(columns) => custom_table(columns, style),
            Format::Wide => Table::of_stream(&times_fitted(COLUMNS, style.uncut()), style.uncut()),
            _ => Table::of_stream(&times_fitted(COLUMNS, style), style),
        };
        Self { format, table, style, dates: DateLines::new(style), is_empty: true }
    }

    /// The text before the first row.
    pub(in crate::cli) fn header(&self) -> String {
        match &self.format {
            Format::Json => "[".to_owned(),
            Format::Columns(columns) if !self.style.is_quiet => {
                self.table.row(&custom_titles(columns)) + "\n"
            }
            Format::Table | Format::Wide => self.table.header(),
            _ => String::new(),
        }
    }

    /// The text after the last row.
    pub(in crate::cli) fn footer(&self) -> &'static str {
        match (&self.format, self.is_empty) {
            (Format::Json, true) => "]\n",
            (Format::Json, false) => "\n]\n",
            _ => "",
        }
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Formats one exit in a container.
    pub(in crate::cli) fn format(&mut self, exit: &Exit, container: &Container) -> String {
        let object = json::ExitObject::new(exit, &container.namespace);
        let text = match &self.format {
            Format::Table | Format::Wide if self.style.is_quiet => format!("{}\n", exit.pid),
            Format::Table | Format::Wide => {
                let exec = printable::safe_text(exit.exec_id.as_bytes());
                let status = status_text(exit.status);
                let row = [exec, exit.pid.to_string(), status];
                let line = self.line(exit.timestamp_ns, container, row);
                let line = match exit.status {
                    0 => line,
                    _ => self.style.highlight_failure(line),
                };
                self.dates.before(exit.timestamp_ns) + &line + "\n"
            }
            _ => self.object(&object),
        };
        self.is_empty = false;
        text
    }

    /// Formats an event as a row among the exits if it is a gap; otherwise the text is empty.
    pub(in crate::cli) fn format_gap(&mut self, event: &Event) -> String {
        let Some(Body::Gap(gap)) = &event.body else { return String::new() };
        let text = match &self.format {
            Format::Table | Format::Wide => {
                let row = [String::new(), String::new(), gap_text(gap)];
                let line = self.line(event.time_ns, event.container.get_or_default(), row);
                self.dates.before(event.time_ns) + &self.style.highlight_failure(line) + "\n"
            }
            _ => self.object(&json::Event::from(event)),
        };
        self.is_empty = false;
        text
    }

    fn line(&self, time_ns: u64, container: &Container, [exec, pid, what]: [String; 3]) -> String {
        let mut name = container_name(container, self.style);
        if self.format == Format::Wide {
            let namespace = printable::safe_text(container.namespace.as_bytes());
            name = format!("{namespace}/{}", short_id(&container.id, Style::default()));
        }
        let time = time_cell(time_ns, &self.table, self.style);
        self.table.row(&[time, name, exec, pid, what].map(or_dash))
    }

    fn object(&self, object: &impl serde::Serialize) -> String {
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

/// A status with the signal that it stands for.
fn status_text(status: u32) -> String {
    let signal = status.checked_sub(128).and_then(|signal| i32::try_from(signal).ok());
    match signal.and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok()) {
        Some(signal) => format!("{status} ({})", signal.as_str()),
        None => status.to_string(),
    }
}
