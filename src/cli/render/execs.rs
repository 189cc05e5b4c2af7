//! The output of `lookout execs`.

use serde::Serialize;

use super::{
    events::{command_text, end_text},
    names::{container_name, short_id},
    rows::list_of_objects,
    table::{Column, Table, or_dash},
};
use crate::{
    api::{Container, Process},
    cli::{args::Format, clock, output::Style},
    client::json,
    model::printable,
};

/// One exec, as the journal and the live processes show it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct Exec {
    pub(in crate::cli) container: Container,
    pub(in crate::cli) id: String,
    /// The process of the exec, with the image that it ran last.
    pub(in crate::cli) process: Process,
    /// `CLOCK_REALTIME` in nanoseconds since 1970; 0 if the journal no longer has its start.
    pub(in crate::cli) started_ns: u64,
    /// `None` while the process lives, or if its exit is not in the journal.
    pub(in crate::cli) ended_ns: Option<u64>,
    /// How many processes it had, as far as the journal has them.
    pub(in crate::cli) processes: u64,
    /// The pids of its living processes.
    pub(in crate::cli) alive: Vec<i32>,
    /// How many execs of the same command with the same result the row stands for.
    pub(in crate::cli) times: u64,
}

impl Exec {
    /// The processes that live although that of the exec has ended.
    pub(in crate::cli) fn left(&self) -> &[i32] {
        if self.ended_ns.is_some() { &self.alive } else { &[] }
    }

    /// Whether two execs are the same to a reader: a probe that is repeated with the same result.
    pub(in crate::cli) fn is_repeated_by(&self, other: &Self) -> bool {
        self.ended_ns.is_some()
            && other.ended_ns.is_some()
            && self.alive.is_empty()
            && other.alive.is_empty()
            && self.container == other.container
            && self.process.args == other.process.args
            && self.process.ended == other.process.ended
    }
}

const TABLE_COLUMNS: [Column; 8] = [
    Column::new("CONTAINER", 20).least(12),
    Column::new("EXEC", 16).least(8),
    Column::new("STARTED", 6).right().rank(1),
    Column::new("TIME", 6).right().rank(2),
    Column::new("STATUS", 10).least(8),
    Column::new("PROCS", 5).right().rank(3),
    Column::new("ALIVE", 5).right(),
    Column::last("COMMAND"),
];
const WIDE_COLUMNS: [Column; 11] = [
    Column::new("NAMESPACE", 9),
    Column::new("CONTAINER", 12),
    Column::new("EXEC", 16),
    Column::new("STARTED", 19),
    Column::new("ENDED", 19),
    Column::new("STATUS", 10),
    Column::new("TIMES", 5),
    Column::new("PROCS", 5),
    Column::new("PID", 7),
    Column::new("ALIVE", 7),
    Column::last("COMMAND"),
];

/// An exec as one JSON object.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct ExecObject {
    #[serde(flatten)]
    process: json::ListedProcess,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
    processes: u64,
    alive: Vec<i32>,
    times: u64,
}

/// The JSON form of an exec.
pub(in crate::cli) fn object(exec: &Exec) -> ExecObject {
    let time = |ns: u64| (ns > 0).then(|| crate::model::rfc3339(ns));
    let listed = crate::api::ContainerProcess {
        container: Some(exec.container.clone()).into(),
        process: Some(exec.process.clone()).into(),
        ..Default::default()
    };
    ExecObject {
        process: json::ListedProcess::from(&listed),
        started: time(exec.started_ns),
        ended: exec.ended_ns.and_then(time),
        status: exec.process.ended.as_ref().and_then(|ended| ended.status),
        processes: exec.processes,
        alive: exec.alive.clone(),
        times: exec.times,
    }
}

/// Formats execs as a list.
pub(in crate::cli) fn list(execs: &[Exec], format: &Format, style: Style) -> String {
    let objects: Vec<_> = execs.iter().map(object).collect();
    if let Some(text) = list_of_objects(&objects, format, style) {
        return text;
    }
    if style.is_quiet {
        let id = |exec: &Exec| printable::safe_text(exec.id.as_bytes()) + "\n";
        return execs.iter().map(id).collect();
    }
    if *format == Format::Wide {
        let rows: Vec<_> = execs.iter().map(|one| wide_row(one, style)).collect();
        return Table::of_rows(&WIDE_COLUMNS, &rows, style.uncut()).page(&rows);
    }
    let mut columns = TABLE_COLUMNS;
    if style.clock.is_complete() {
        columns[2] = Column::new("STARTED (UTC)", 30);
    }
    let rows: Vec<_> = execs.iter().map(|one| row(one, style)).collect();
    let table = Table::of_rows(&columns, &rows, style);
    let mut text = table.header();
    for (exec, row) in execs.iter().zip(&rows) {
        let line = table.row(row);
        let is_failure = exec.process.ended.as_ref().is_some_and(|end| end.status != Some(0));
        let is_worth_a_look = is_failure || !exec.left().is_empty();
        text += &if is_worth_a_look { style.highlight_failure(line) } else { line };
        text.push('\n');
    }
    text
}

fn row(exec: &Exec, style: Style) -> Vec<String> {
    let started = match exec.started_ns {
        0 => String::new(),
        started if style.clock.is_complete() => style.clock.date_and_time(started),
        started => clock::age(started),
    };
    let end = exec.ended_ns.unwrap_or_else(clock::now_ns);
    let ran =
        (exec.started_ns > 0).then(|| clock::short_duration(end.saturating_sub(exec.started_ns)));
    // Of an exec that still runs, the time passes.
    let ran = ran.filter(|_| exec.ended_ns.is_some() || !style.clock.is_complete());
    [
        container_name(&exec.container, style),
        printable::safe_text(exec.id.as_bytes()),
        started,
        ran.unwrap_or_default(),
        status_text(exec),
        exec.processes.to_string(),
        exec.alive.len().to_string(),
        command(exec),
    ]
    .map(or_dash)
    .to_vec()
}

fn wide_row(exec: &Exec, style: Style) -> Vec<String> {
    let time = |ns: u64| if ns == 0 { String::new() } else { style.clock.date_and_time(ns) };
    let pids: Vec<String> = exec.alive.iter().map(i32::to_string).collect();
    [
        printable::safe_text(exec.container.namespace.as_bytes()),
        short_id(&exec.container.id, Style::default()),
        printable::safe_text(exec.id.as_bytes()),
        time(exec.started_ns),
        exec.ended_ns.map_or_else(String::new, time),
        status_text(exec),
        exec.times.to_string(),
        exec.processes.to_string(),
        exec.process.pid.to_string(),
        pids.join(","),
        command_text(&exec.process),
    ]
    .map(or_dash)
    .to_vec()
}

fn status_text(exec: &Exec) -> String {
    match exec.ended_ns {
        Some(_) => end_text(&exec.process),
        None if exec.alive.is_empty() => "unknown".to_owned(),
        None => "running".to_owned(),
    }
}

fn command(exec: &Exec) -> String {
    let command = command_text(&exec.process);
    if exec.times > 1 { format!("{} times: {command}", exec.times) } else { command }
}
