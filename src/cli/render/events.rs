//! The output of `lookout events`.

use super::{
    gap::{self, millis_text},
    names::container_name,
    ports,
    rows::RowStream,
    table::{Column, Table, or_dash},
    time::{time_cell, times_fitted},
};
use crate::{
    api::{Event, Parent, Process, event::Body},
    cli::{args::Format, clock::short_duration, output::Style},
    client::json,
    model::{printable, rfc3339},
};

/// The columns of `-o table`.
const TABLE_COLUMNS: [Column; 6] = [
    Column::new("TIME", 12),
    Column::new("CONTAINER", 20).least(12),
    Column::new("EVENT", 10),
    Column::new("PID", 7).rank(2),
    Column::new("ORIGIN", 16).least(10).rank(1),
    Column::last("WHAT"),
];
/// The columns of `-o wide`.
const WIDE_COLUMNS: [Column; 12] = [
    Column::new("TIME", 30),
    Column::new("SEQ", 6),
    Column::new("NAMESPACE", 10),
    Column::new("CONTAINER", 16),
    Column::new("TYPE", 19),
    Column::new("PID", 7),
    Column::new("VPID", 6),
    Column::new("PPID", 7),
    Column::new("ORIGIN", 16),
    Column::new("GRADE", 8),
    Column::new("EXECUTABLE", 20),
    Column::last("WHAT"),
];

/// Formats the rows of `lookout events`, one by one.
#[derive(Debug, Clone)]
pub(in crate::cli) struct EventRows(RowStream);

impl EventRows {
    pub(in crate::cli) fn new(format: Format, style: Style) -> Self {
        Self(RowStream::new(format, style, |format| match format {
            Format::Wide => Table::of_stream(&WIDE_COLUMNS, style.uncut()),
            _ => Table::of_stream(&times_fitted(TABLE_COLUMNS, style), style),
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

    /// Formats one event; empty if the format does not show events of its type.
    pub(in crate::cli) fn format(&mut self, event: &Event) -> String {
        let text = self.format_event(event);
        self.0.note(text)
    }

    fn format_event(&mut self, event: &Event) -> String {
        match &self.0.format {
            Format::Probe => json::ProbeObject::of(event)
                .map_or_else(String::new, |probe| json::to_line(&probe) + "\n"),
            Format::Table | Format::Wide if matches!(event.body, Some(Body::Hello(_))) => {
                String::new()
            }
            Format::Table => {
                let line = self.0.dates.before(event.time_ns);
                line + &self.highlighted(event, self.0.table.row(&self.table_cells(event))) + "\n"
            }
            Format::Wide => self.highlighted(event, self.0.table.row(&wide_cells(event))) + "\n",
            _ => self.0.object(&json::Event::from(event)),
        }
    }

    fn highlighted(&self, event: &Event, line: String) -> String {
        if is_failure(event) { self.0.style.highlight_failure(line) } else { line }
    }

    fn table_cells(&self, event: &Event) -> Vec<String> {
        let process = match &event.body {
            Some(Body::Process(process)) => Some(process),
            _ => None,
        };
        let container = container_name(event.container.get_or_default(), self.0.style);
        let (name, verb) = event_name(&event.type_);
        let what = what_cell(event, false);
        let what = if verb.is_empty() { what } else { format!("{verb} {what}") };
        vec![
            time_cell(event.time_ns, &self.0.table, self.0.style),
            or_dash(container),
            name,
            or_dash(pid_cell(event)),
            or_dash(process.map(origin_text).unwrap_or_default()),
            or_dash(what),
        ]
    }
}

/// The name of an event in the narrow column of a table, and the verb that then begins its
/// description: `process.exit` is `exit`, and `container.close` is `container`, `close`.
fn event_name(type_name: &str) -> (String, &str) {
    let (name, verb) = match type_name.split_once('.') {
        Some(("container", verb)) => ("container", verb),
        Some(("process" | "observer", name)) => (name, ""),
        _ => (type_name, ""),
    };
    (printable::safe_text(name.as_bytes()), verb)
}

fn wide_cells(event: &Event) -> Vec<String> {
    let process = match &event.body {
        Some(Body::Process(process)) => Some(process),
        _ => None,
    };
    let container = event.container.get_or_default();
    let number = |number: i32| if number == 0 { String::new() } else { number.to_string() };
    let text = |text: &str| printable::safe_text(text.as_bytes());
    [
        rfc3339(event.time_ns),
        if event.seq == 0 { String::new() } else { event.seq.to_string() },
        text(&container.namespace),
        text(&container.id),
        text(&event.type_),
        pid_cell(event),
        process.and_then(|process| process.vpid).map_or_else(String::new, number),
        process.map_or_else(String::new, |process| number(process.parent_pid)),
        process.map(origin_text).unwrap_or_default(),
        text(&event.grade),
        process
            .and_then(|process| process.executable.as_ref())
            .map(|path| printable::safe_text(path))
            .unwrap_or_default(),
        what_cell(event, true),
    ]
    .map(or_dash)
    .to_vec()
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
pub(super) fn is_failure(event: &Event) -> bool {
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
        (None, "", None) => "status unknown".to_owned(),
        (None, signal, _) => printable::safe_text(signal.as_bytes()),
    };
    if ended.oom_killed {
        text.push_str(" (OOM)");
    }
    text
}

/// How long the process of an exit has run, in nanoseconds, exact to a clock tick; `None` if its
/// start is unknown.
pub(super) fn run_time_ns(event: &Event) -> Option<u64> {
    let Some(Body::Process(process)) = &event.body else { return None };
    // Older shims do not report it. The start is exact to a clock tick.
    let since_start =
        || event.time_ns.checked_sub(process.created_ns).filter(|_| process.created_ns > 0);
    process.run_time_ns.or_else(since_start)
}

/// A run time; a short one in hundredths of a second, which are the clock ticks of a start.
pub(super) fn run_time_text(ns: u64) -> String {
    let hundredths = ns / 10_000_000;
    match hundredths {
        0..1000 => format!("{}.{:02}s", hundredths / 100, hundredths % 100),
        _ => short_duration(ns),
    }
}

/// The text of the column `WHAT` for an event of a process.
fn process_what_cell(event: &Event, process: &Process) -> String {
    match event.type_.as_str() {
        "process.exit" => {
            let after = run_time_ns(event).map(run_time_text);
            let after = after.map_or_else(String::new, |after| format!(", {after}"));
            format!("{}{after}: {}", end_text(process), command_text(process))
        }
        "process.done" => {
            let after = process
                .after_exit_ns
                .map_or_else(String::new, |after| format!("{} after exit: ", millis_text(after)));
            format!("{after}{}", command_text(process))
        }
        "process.held" => {
            format!("output held by {}", named_text(&process.holders, process.holders_count))
        }
        "exec.left" => {
            format!("has left {}", named_text(&process.survivors, process.survivors_count))
        }
        _ => command_text(process),
    }
}

/// The processes that an event names, and how many it does not name.
fn named_text(named: &[Parent], count: Option<u32>) -> String {
    let texts = named.iter().map(|one| {
        let path = one.executable.as_deref().map(printable::safe_text);
        format!("{} {}", one.pid, path.as_deref().unwrap_or("?"))
    });
    let more = (count.unwrap_or_default() as usize).saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", texts.collect::<Vec<_>>().join(", "))
}

/// The text of the column `WHAT` for an event of any type.
pub(in crate::cli) fn what_text(event: &Event) -> String {
    what_cell(event, false)
}

/// As [`what_text`]; a wide one also has what few need.
fn what_cell(event: &Event, is_wide: bool) -> String {
    match &event.body {
        Some(Body::Process(process)) => process_what_cell(event, process),
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
        Some(Body::Port(port)) => ports::port_text(port, is_wide),
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
