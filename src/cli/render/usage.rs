//! The output of `lookout stats` and `lookout top`.

use std::collections::HashMap;

use serde::Serialize;

use super::table::{align_columns, or_dash};
use crate::{
    api::Usage,
    cli::{args::ListFormat, output::Style},
    client::json,
    model::printable,
};

#[derive(Serialize)]
struct JsonRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    descends_from: Option<u64>,
    pid: i32,
    entity_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    /// Whether the container is idle; `None` for a process that belongs to no container.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<bool>,
    command: &'a str,
    cpu_ns: u64,
    /// CPU usage between two samples; 100 is one processor. `None` if there is only one sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fds: Option<u32>,
    threads: u32,
}

/// Formats the resource usage of processes as a list. `rates` has the CPU rate of each process by
/// its entity id.
pub(in crate::cli) fn list(
    usages: &[Usage],
    rates: &HashMap<String, f64>,
    format: ListFormat,
    style: Style,
) -> String {
    let row = |usage| JsonRow::new(usage, rates);
    match format {
        ListFormat::Json => json::to_line(&usages.iter().map(row).collect::<Vec<_>>()) + "\n",
        ListFormat::Jsonl => usages.iter().map(|one| json::to_line(&row(one)) + "\n").collect(),
        ListFormat::Table | ListFormat::Wide if style.is_quiet => {
            usages.iter().map(|one| format!("{}\n", one.pid)).collect()
        }
        ListFormat::Table | ListFormat::Wide => usage_table(usages, rates, style),
    }
}

/// Formats a page of `lookout top`: a summary above a table of processes.
pub(in crate::cli) fn top_page(
    usages: &[Usage],
    rates: &HashMap<String, f64>,
    style: Style,
) -> String {
    let used: f64 = rates.values().sum();
    let memory: u64 = usages.iter().map(|usage| usage.rss_bytes).sum();
    let summary = format!(
        "{} processes, {:.1} % CPU, {} resident",
        usages.len(),
        used * 100.0,
        size_text(memory)
    );
    let summary =
        if style.is_quiet { String::new() } else { style.fit_to_width(&summary) + "\n\n" };
    summary + &usage_table(usages, rates, style)
}

fn usage_table(usages: &[Usage], rates: &HashMap<String, f64>, style: Style) -> String {
    let row = |usage: &Usage| {
        let id = match (usage.id, usage.descends_from) {
            (0, 0) => String::new(),
            (0, ancestor) => format!("└ {ancestor}"),
            (id, _) => id.to_string(),
        };
        let cpu = match rates.get(&usage.entity_id) {
            Some(rate) => format!("{:.1}", rate * 100.0),
            None => "-".to_owned(),
        };
        let count = |count: Option<u32>| count.map_or_else(String::new, |count| count.to_string());
        let size = |size: Option<u64>| size.map_or_else(String::new, size_text);
        let container = usage.container.as_ref().map_or("", |container| container.id.as_str());
        let name = if usage.name.is_empty() { container } else { &usage.name };
        let state = if usage.idle { " (idle)" } else { "" };
        let cells = [
            id,
            usage.pid.to_string(),
            printable::safe_text(name.as_bytes()) + state,
            cpu,
            cpu_time_text(usage.cpu_ns),
            size_text(usage.rss_bytes),
            size(usage.read_bytes),
            size(usage.written_bytes),
            count(usage.fds),
            usage.threads.to_string(),
            printable::safe_text(usage.command.as_bytes()),
        ];
        cells.map(or_dash).to_vec()
    };
    let header = [
        "ID", "PID", "NAME", "CPU %", "TIME", "RSS", "READ", "WRITTEN", "FDS", "THREADS", "COMMAND",
    ];
    align_columns(&header, &usages.iter().map(row).collect::<Vec<_>>(), style)
}

impl<'a> JsonRow<'a> {
    fn new(usage: &'a Usage, rates: &HashMap<String, f64>) -> Self {
        // Tenths, as in the table: the measurement is not more exact.
        let percent = |rate: &f64| (rate * 1000.0).round() / 10.0;
        Self {
            id: Some(usage.id).filter(|id| *id != 0),
            descends_from: Some(usage.descends_from).filter(|id| *id != 0),
            pid: usage.pid,
            entity_id: &usage.entity_id,
            name: &usage.name,
            container: usage.container.as_ref().map(|container| container.id.as_str()),
            idle: usage.container.as_ref().map(|_| usage.idle),
            command: &usage.command,
            cpu_ns: usage.cpu_ns,
            cpu_percent: rates.get(&usage.entity_id).map(percent),
            rss_bytes: usage.rss_bytes,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
            fds: usage.fds,
            threads: usage.threads,
        }
    }
}

/// A CPU time as minutes, seconds and hundredths, such as `1:02.34`.
fn cpu_time_text(cpu_ns: u64) -> String {
    let hundredths = cpu_ns / 10_000_000;
    format!("{}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100)
}

/// A number of bytes in the largest unit that gives at least two digits, rounded down.
pub(in crate::cli) fn size_text(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let step = units.iter().enumerate().rev().find(|(power, _)| bytes >> (10 * power) >= 10);
    let (power, unit) = step.unwrap_or((0, &"B"));
    format!("{}{unit}", bytes >> (10 * power))
}
