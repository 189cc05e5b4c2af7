//! The output of `lookout events`.

use super::{
    gap::{self, millis_text},
    ports,
    table::{or_dash, pad_row, shorten_id},
};
use crate::{
    api::{Event, Process, event::Body},
    cli::{args::EventFormat, output::Style},
    client::json,
    model::{printable, rfc3339},
};

/// The titles and widths of the columns of `-o table`. The widths are fixed, because later rows are
/// unknown.
const TABLE_COLUMNS: [(&str, usize); 6] =
    [("TIME (UTC)", 15), ("CONTAINER", 16), ("TYPE", 19), ("PID", 7), ("ORIGIN", 16), ("WHAT", 0)];
/// The titles and widths of the columns of `-o wide`, fixed as in [`TABLE_COLUMNS`].
const WIDE_COLUMNS: [(&str, usize); 12] = [
    ("TIME", 30),
    ("SEQ", 6),
    ("NAMESPACE", 10),
    ("CONTAINER", 16),
    ("TYPE", 19),
    ("PID", 7),
    ("VPID", 6),
    ("PPID", 7),
    ("ORIGIN", 16),
    ("GRADE", 8),
    ("EXECUTABLE", 20),
    ("WHAT", 0),
];

/// The text that is printed before the first event.
pub(in crate::cli) fn header(format: EventFormat, style: Style) -> String {
    let columns: &[(&str, usize)] = match format {
        EventFormat::Table => &TABLE_COLUMNS,
        EventFormat::Wide => &WIDE_COLUMNS,
        EventFormat::Json => return "[".to_owned(),
        EventFormat::Jsonl | EventFormat::Probe => return String::new(),
    };
    if style.is_quiet {
        return String::new();
    }
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let widths: Vec<usize> = columns.iter().map(|(_, width)| *width).collect();
    style.fit_to_width(&pad_row(&titles, &widths)) + "\n"
}

/// The text that is printed after the last event.
pub(in crate::cli) fn footer(format: EventFormat, is_empty: bool) -> &'static str {
    match (format, is_empty) {
        (EventFormat::Json, true) => "]\n",
        (EventFormat::Json, false) => "\n]\n",
        (EventFormat::Table | EventFormat::Wide | EventFormat::Jsonl | EventFormat::Probe, _) => "",
    }
}

/// Formats one event; empty if `format` does not show events of its type. `is_first` is whether no
/// event was printed before.
pub(in crate::cli) fn format_event(
    event: &Event,
    format: EventFormat,
    is_first: bool,
    style: Style,
) -> String {
    match format {
        EventFormat::Json => {
            format!(
                "{}{}",
                if is_first { "\n" } else { ",\n" },
                json::to_line(&json::Event::from(event))
            )
        }
        EventFormat::Jsonl => json::to_line(&json::Event::from(event)) + "\n",
        EventFormat::Probe => json::ProbeObject::of(event)
            .map_or_else(String::new, |probe| json::to_line(&probe) + "\n"),
        EventFormat::Table | EventFormat::Wide if matches!(event.body, Some(Body::Hello(_))) => {
            String::new()
        }
        EventFormat::Table | EventFormat::Wide => row(event, format, style) + "\n",
    }
}

fn row(event: &Event, format: EventFormat, style: Style) -> String {
    let process = match &event.body {
        Some(Body::Process(process)) => Some(process),
        _ => None,
    };
    let time = rfc3339(event.time_ns);
    let namespace = event
        .container
        .as_ref()
        .map(|container| printable::safe_text(container.namespace.as_bytes()));
    let container = event
        .container
        .as_ref()
        .map(|container| printable::safe_text(container.id.as_bytes()))
        .unwrap_or_default();
    let type_name = printable::safe_text(event.type_.as_bytes());
    let what = what_cell(event, format);
    let pid = pid_cell(event);
    let origin = process.map(origin_text).unwrap_or_default();
    let line = if format == EventFormat::Table {
        let clock = time.get(11..26).unwrap_or(&time).to_owned();
        let container = if style.width.is_some() {
            shorten_id(&container, TABLE_COLUMNS[1].1)
        } else {
            container
        };
        let row = [clock, or_dash(container), type_name, or_dash(pid), or_dash(origin), what];
        pad_row(&row, &TABLE_COLUMNS.map(|(_, width)| width))
    } else {
        let number = |number: i32| if number == 0 { String::new() } else { number.to_string() };
        let row = [
            time,
            if event.seq == 0 { String::new() } else { event.seq.to_string() },
            namespace.unwrap_or_default(),
            container,
            type_name,
            pid,
            process.and_then(|process| process.vpid).map_or_else(String::new, number),
            process.map_or_else(String::new, |process| number(process.parent_pid)),
            origin,
            printable::safe_text(event.grade.as_bytes()),
            process
                .and_then(|process| process.executable.as_ref())
                .map(|path| printable::safe_text(path))
                .unwrap_or_default(),
            what,
        ]
        .map(or_dash);
        pad_row(&row, &WIDE_COLUMNS.map(|(_, width)| width))
    };
    let line = style.fit_to_width(&line);
    if is_failure(event) { style.highlight_failure(line) } else { line }
}

fn pid_cell(event: &Event) -> String {
    match &event.body {
        Some(Body::Process(process)) => process.pid.to_string(),
        Some(Body::ContainerStart(start)) => start.init_pid.to_string(),
        Some(Body::Port(port)) => {
            port.owners.first().map_or_else(String::new, |owner| owner.pid.to_string())
        }
        _ => String::new(),
    }
}

/// Whether an event reports a loss, or an exit with a status that is non-zero or unknown.
fn is_failure(event: &Event) -> bool {
    match &event.body {
        Some(Body::Gap(_)) => true,
        Some(Body::Process(process)) => {
            process.ended.as_ref().is_some_and(|ended| ended.status.unwrap_or(1) != 0)
        }
        _ => false,
    }
}

/// The origin of a process: `exec:ID` for an exec, `descendant:ID` for its descendants.
pub(in crate::cli) fn origin_text(process: &Process) -> String {
    let origin = printable::safe_text(process.origin.as_bytes());
    if process.exec_id.is_empty() {
        origin
    } else {
        format!("{origin}:{}", printable::safe_text(process.exec_id.as_bytes()))
    }
}

/// The command line of a process. If its arguments are unknown: `[executable]`, else `(comm)`, else
/// `?`.
pub(in crate::cli) fn command_text(process: &Process) -> String {
    let mut text = if !process.args.is_empty() {
        printable::command_line(process.args.iter().map(Vec::as_slice))
    } else if let Some(path) = &process.executable {
        format!("[{}]", printable::safe_text(path))
    } else if let Some(comm) = &process.comm {
        format!("({})", printable::safe_text(comm))
    } else {
        "?".to_owned()
    };
    if process.args_truncated {
        let bytes =
            process.args_bytes.map_or_else(String::new, |bytes| format!(" {bytes} bytes in total"));
        text.push_str(&format!(" …{bytes}"));
    }
    text
}

/// Describes how a process ended: its exit code, its signal, or only its status.
pub(in crate::cli) fn end_text(process: &Process) -> String {
    let Some(ended) = process.ended.as_ref() else { return String::new() };
    let mut text = match (ended.code, ended.signal.as_str(), ended.status) {
        (Some(code), _, _) => format!("exit {code}"),
        (None, "", Some(status)) => format!("status {status}"),
        (None, "", None) => "exit status unknown".to_owned(),
        (None, signal, _) => printable::safe_text(signal.as_bytes()),
    };
    if ended.oom_killed {
        text.push_str(" (out of memory)");
    }
    text
}

/// The text of the column `WHAT` for an event of a process.
fn process_what_cell(type_name: &str, process: &Process) -> String {
    match type_name {
        "process.exit" => format!("{}: {}", end_text(process), command_text(process)),
        "process.done" => {
            let after = process
                .after_exit_ns
                .map_or_else(String::new, |after| format!("{} after exit: ", millis_text(after)));
            format!("{after}{}", command_text(process))
        }
        "process.held" => {
            let holders = process.holders.iter().map(|holder| {
                let path = holder.executable.as_deref().map(printable::safe_text);
                format!("{} {}", holder.pid, path.as_deref().unwrap_or("?"))
            });
            let named = process.holders.len();
            let more = (process.holders_count.unwrap_or_default() as usize).saturating_sub(named);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("output held by {}{more}", holders.collect::<Vec<_>>().join(", "))
        }
        _ => command_text(process),
    }
}

/// The text of the column `WHAT` for an event of any type.
fn what_cell(event: &Event, format: EventFormat) -> String {
    match &event.body {
        Some(Body::Process(process)) => process_what_cell(&event.type_, process),
        Some(Body::ContainerStart(_)) | Some(Body::Hello(_)) | None => String::new(),
        Some(Body::ContainerClose(close)) => {
            let count = |count: Option<u64>| {
                count.map_or_else(|| "?".to_owned(), |count| count.to_string())
            };
            format!(
                "seen {} = delivered {} + lost {}",
                count(close.seen),
                close.delivered,
                count(close.lost)
            )
        }
        Some(Body::Gap(gap)) => gap::gap_text(gap),
        Some(Body::ContainerIdle(idle)) => format!("quiet for {}", millis_text(idle.quiet_ns)),
        Some(Body::ContainerActive(active)) => {
            format!("by {}", printable::safe_text(active.cause.as_bytes()))
        }
        Some(Body::Port(port)) => ports::port_text(port, format == EventFormat::Wide),
        Some(Body::Throttle(throttle)) => {
            format!(
                "{} withheld from containerd's bus in {}",
                throttle.withheld,
                millis_text(throttle.over_ns)
            )
        }
        Some(Body::Capability(capability)) => {
            let parts = [
                &capability.category,
                &capability.support,
                &capability.backend,
                &capability.reason,
            ];
            let [category, support, backend, reason] =
                parts.map(|part| printable::safe_text(part.as_bytes()));
            format!("{category}: {support} ({backend}): {reason}")
        }
    }
}
