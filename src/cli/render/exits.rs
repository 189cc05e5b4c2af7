//! The output of `lookout exits`.

use super::{
    gap::gap_text,
    table::shorten_id,
    table::{or_dash, pad_row},
};
use crate::{
    api::{Event, Exit, event::Body},
    cli::{args::ListFormat, output::Style},
    client::json,
    model::{printable, rfc3339},
};

/// The titles and widths of the columns. The widths are fixed, because later rows are unknown.
const TABLE_COLUMNS: [(&str, usize); 5] =
    [("TIME (UTC)", 30), ("CONTAINER", 16), ("EXEC", 16), ("PID", 7), ("STATUS", 0)];

/// The text that is printed before the first exit.
pub(in crate::cli) fn header(format: ListFormat, style: Style) -> String {
    match format {
        ListFormat::Json => "[".to_owned(),
        ListFormat::Jsonl => String::new(),
        ListFormat::Table | ListFormat::Wide if style.is_quiet => String::new(),
        ListFormat::Table | ListFormat::Wide => {
            let titles = TABLE_COLUMNS.map(|(title, _)| title.to_owned());
            style.fit_to_width(&pad_row(&titles, &TABLE_COLUMNS.map(|(_, width)| width))) + "\n"
        }
    }
}

/// The text that is printed after the last exit.
pub(in crate::cli) fn footer(format: ListFormat, is_empty: bool) -> &'static str {
    match (format, is_empty) {
        (ListFormat::Json, true) => "]\n",
        (ListFormat::Json, false) => "\n]\n",
        (ListFormat::Table | ListFormat::Wide | ListFormat::Jsonl, _) => "",
    }
}

/// Formats one exit. `is_first` is whether no exit was printed before.
pub(in crate::cli) fn format_exit(
    exit: &Exit,
    namespace: &str,
    format: ListFormat,
    is_first: bool,
    style: Style,
) -> String {
    match format {
        ListFormat::Json => {
            format!(
                "{}{}",
                if is_first { "\n" } else { ",\n" },
                json::to_line(&json::ExitObject::new(exit, namespace))
            )
        }
        ListFormat::Jsonl => json::to_line(&json::ExitObject::new(exit, namespace)) + "\n",
        ListFormat::Table | ListFormat::Wide if style.is_quiet => format!("{}\n", exit.pid),
        ListFormat::Table | ListFormat::Wide => {
            let mut container = printable::safe_text(exit.container_id.as_bytes());
            if format == ListFormat::Wide {
                container = format!("{}/{container}", printable::safe_text(namespace.as_bytes()));
            } else if style.width.is_some() {
                container = shorten_id(&container, TABLE_COLUMNS[1].1);
            }
            let exec = or_dash(printable::safe_text(exit.exec_id.as_bytes()));
            let row = [
                rfc3339(exit.timestamp_ns),
                container,
                exec,
                exit.pid.to_string(),
                exit.status.to_string(),
            ];
            let line = style.fit_to_width(&pad_row(&row, &TABLE_COLUMNS.map(|(_, width)| width)));
            let line = if exit.status == 0 { line } else { style.highlight_failure(line) };
            line + "\n"
        }
    }
}

/// Formats an event as a row among the exits if it is a gap; otherwise the text is empty.
/// `is_first` is as for [`format_exit`].
pub(in crate::cli) fn format_gap(
    event: &Event,
    format: ListFormat,
    is_first: bool,
    style: Style,
) -> String {
    let Some(Body::Gap(gap)) = &event.body else { return String::new() };
    let object = || json::to_line(&json::Event::from(event));
    match format {
        ListFormat::Json => format!("{}{}", if is_first { "\n" } else { ",\n" }, object()),
        ListFormat::Jsonl => object() + "\n",
        ListFormat::Table | ListFormat::Wide => {
            let container = event.container.get_or_default();
            let container = or_dash(printable::safe_text(container.id.as_bytes()));
            let [exec, pid] = ["-".to_owned(), "-".to_owned()];
            let row = [rfc3339(event.time_ns), container, exec, pid, gap_text(gap)];
            style.highlight_failure(
                style.fit_to_width(&pad_row(&row, &TABLE_COLUMNS.map(|(_, width)| width))),
            ) + "\n"
        }
    }
}
