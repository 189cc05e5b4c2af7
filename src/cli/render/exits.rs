//! The output of `lookout exits`.

use super::{
    gap::lost,
    table::shortened,
    table::{or_dash, padded},
};
use crate::{
    api::{Event, Exit, event::Body},
    cli::{args::ListFormat, output::Style},
    client::json,
    model::{printable, rfc3339},
};

const TABLE: [(&str, usize); 5] =
    [("TIME (UTC)", 30), ("CONTAINER", 16), ("EXEC", 16), ("PID", 7), ("STATUS", 0)];

/// The text before the first exit.
pub(in crate::cli) fn header(format: ListFormat, style: Style) -> String {
    match format {
        ListFormat::Json => "[".to_owned(),
        ListFormat::Jsonl => String::new(),
        ListFormat::Table | ListFormat::Wide if style.is_quiet => String::new(),
        ListFormat::Table | ListFormat::Wide => {
            let titles = TABLE.map(|(title, _)| title.to_owned());
            style.fit(&padded(&titles, &TABLE.map(|(_, width)| width))) + "\n"
        }
    }
}

/// The text after the last exit.
pub(in crate::cli) fn footer(format: ListFormat, is_empty: bool) -> &'static str {
    match (format, is_empty) {
        (ListFormat::Json, true) => "]\n",
        (ListFormat::Json, false) => "\n]\n",
        (ListFormat::Table | ListFormat::Wide | ListFormat::Jsonl, _) => "",
    }
}

/// Formats one exit. `is_first` is whether no exit was printed before.
pub(in crate::cli) fn exit(
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
                json::line(&json::Exited::new(exit, namespace))
            )
        }
        ListFormat::Jsonl => json::line(&json::Exited::new(exit, namespace)) + "\n",
        ListFormat::Table | ListFormat::Wide if style.is_quiet => format!("{}\n", exit.pid),
        ListFormat::Table | ListFormat::Wide => {
            let mut container = printable::text(exit.container_id.as_bytes());
            if format == ListFormat::Wide {
                container = format!("{}/{container}", printable::text(namespace.as_bytes()));
            } else if style.width.is_some() {
                container = shortened(&container, TABLE[1].1);
            }
            let exec = or_dash(printable::text(exit.exec_id.as_bytes()));
            let row = [
                rfc3339(exit.timestamp_ns),
                container,
                exec,
                exit.pid.to_string(),
                exit.status.to_string(),
            ];
            let line = style.fit(&padded(&row, &TABLE.map(|(_, width)| width)));
            let line = if exit.status == 0 { line } else { style.highlight(line) };
            line + "\n"
        }
    }
}

/// Formats a gap among the exits; nothing for another event. `is_first` as for [`exit`].
pub(in crate::cli) fn gap(
    event: &Event,
    format: ListFormat,
    is_first: bool,
    style: Style,
) -> String {
    let Some(Body::Gap(gap)) = &event.body else { return String::new() };
    let object = || json::line(&json::Event::from(event));
    match format {
        ListFormat::Json => format!("{}{}", if is_first { "\n" } else { ",\n" }, object()),
        ListFormat::Jsonl => object() + "\n",
        ListFormat::Table | ListFormat::Wide => {
            let container = event.container.get_or_default();
            let container = or_dash(printable::text(container.id.as_bytes()));
            let [exec, pid] = ["-".to_owned(), "-".to_owned()];
            let row = [rfc3339(event.time_ns), container, exec, pid, lost(gap)];
            style.highlight(style.fit(&padded(&row, &TABLE.map(|(_, width)| width)))) + "\n"
        }
    }
}
