//! `lookout report -o html`: one page without a script and without any other file.
//!
//! `report.html` is its template. The engine escapes every value for HTML, and texts are made safe
//! to print before that. What is in a style is a number or a colour from here.

use minijinja::{AutoEscape, Environment, value::Serde};
use serde::Serialize;

use super::{
    model::{Gap, Port, Process, Report, State, Time},
    tree,
};
use crate::{
    cli::{
        clock::{Clock, short_duration},
        exit::Failure,
    },
    model::printable::safe_text,
};

/// How many processes, and rows of each other table, a page has, so that a browser still opens it.
const PROCESSES_MAX: usize = 5000;
const ROWS_MAX: usize = 1000;
/// How many ports are drawn in the timeline.
const PORT_LANES: usize = 100;
/// How many gaps are drawn: each is a layer of every row. Beyond that, neighbours become one.
const GAPS_DRAWN: usize = 24;
/// How many characters of a command a row, and the text over it, has.
const COMMAND_MAX: usize = 160;
const FULL_MAX: usize = 2000;
/// The parts of the timeline that have a time.
const TICKS: u32 = 4;

/// The values of the template.
#[derive(Serialize)]
struct Page {
    title: String,
    facts: Vec<Fact>,
    gaps: Layers,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
    left_out: usize,
    failures: Vec<Row>,
    failure_count: usize,
    failures_left_out: usize,
    port_lanes: Vec<PortRow>,
    ports: Vec<PortRow>,
    port_count: usize,
    ports_left_out: usize,
    gap_rows: Vec<GapRow>,
    gap_count: usize,
    gaps_left_out: usize,
    accounts: Vec<AccountRow>,
    event_count: u64,
    from: String,
    version: &'static str,
}

#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
    is_bad: bool,
}

/// The gaps as layers of the background of each row.
#[derive(Serialize)]
struct Layers {
    images: String,
    positions: String,
    sizes: String,
}

#[derive(Serialize)]
struct Tick {
    at: u32,
    text: String,
}

#[derive(Serialize)]
struct Row {
    depth: usize,
    pid: i32,
    command: String,
    full: String,
    origin: String,
    tag: String,
    start: String,
    duration: String,
    status: String,
    is_bad: bool,
    kind: &'static str,
    left: String,
    width: String,
}

#[derive(Serialize, Clone)]
struct PortRow {
    endpoint: String,
    scope: String,
    open: String,
    close: String,
    duration: String,
    status: &'static str,
    pid: String,
    program: String,
    left: String,
    width: String,
}

#[derive(Serialize)]
struct GapRow {
    from: String,
    to: String,
    lost: String,
    stage: String,
}

#[derive(Serialize)]
struct AccountRow {
    sum: String,
    closed: String,
}

/// Formats the report.
pub(super) fn page(report: &Report) -> Result<String, Failure> {
    let mut environment = Environment::empty();
    // For every template, whatever its name is.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let template = environment.template_from_str(include_str!("report.html"));
    let text = template.and_then(|template| template.render(Serde(values(report))));
    text.map_err(|error| {
        Failure::Other(anyhow::Error::new(error).context("failed to format the report"))
    })
}

fn values(report: &Report) -> Page {
    let scale = Scale { report, from_ns: report.from.0, to_ns: report.to.0 };
    let rows: Vec<Row> = tree::chosen(&report.processes, PROCESSES_MAX)
        .into_iter()
        .map(|process| scale.row(process))
        .collect();
    let failures: Vec<Row> =
        report.failures().take(ROWS_MAX).map(|process| scale.row(process)).collect();
    let ports: Vec<PortRow> =
        report.ports.iter().take(ROWS_MAX).map(|port| scale.port(port)).collect();
    let gap_rows: Vec<GapRow> =
        report.gaps.iter().take(ROWS_MAX).map(|gap| scale.gap(gap)).collect();
    let account = |account: &super::model::Account| AccountRow {
        sum: account.sum(),
        closed: date_and_time(account.closed),
    };
    Page {
        title: safe_text(report.title().as_bytes()),
        facts: facts(report),
        gaps: scale.layers(&report.gaps),
        ticks: (0..TICKS).map(|part| scale.tick(part)).collect(),
        left_out: report.processes.len() - rows.len(),
        rows,
        failure_count: report.counts.failures,
        failures_left_out: report.counts.failures - failures.len(),
        failures,
        port_lanes: ports.iter().take(PORT_LANES).cloned().collect(),
        port_count: report.ports.len(),
        ports_left_out: report.ports.len() - ports.len(),
        ports,
        gap_count: report.gaps.len(),
        gaps_left_out: report.gaps.len() - gap_rows.len(),
        gap_rows,
        accounts: report.accounts.iter().map(account).collect(),
        event_count: report.counts.events,
        from: date_and_time(report.from),
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn facts(report: &Report) -> Vec<Fact> {
    let Report { container, counts, .. } = report;
    let mut facts = Vec::new();
    let mut fact = |name, value: String, is_bad| facts.push(Fact { name, value, is_bad });
    fact("Container", safe_text(container.id.as_bytes()), false);
    fact("Namespace", safe_text(container.namespace.as_bytes()), false);
    if !container.pod.is_empty() {
        let pod = format!("{}/{}", container.k8s_namespace, container.pod);
        fact("Pod", safe_text(pod.as_bytes()), false);
        fact("Name in the pod", safe_text(container.name.as_bytes()), false);
    }
    fact("From", date_and_time(report.from), false);
    fact("To", date_and_time(report.to), false);
    let end = if report.is_running { ", still running" } else { "" };
    fact("Duration", format!("{}{end}", short_duration(report.duration_ns)), false);
    let init = report.init.map(|id| &report.processes[id]);
    let status =
        init.map_or("not seen".to_owned(), |init| safe_text(init.status_text().as_bytes()));
    fact("First process", status, init.is_some_and(Process::is_failure));
    let running = match counts.running {
        0 => String::new(),
        running => format!(", {running} still running"),
    };
    fact("Processes", format!("{}{running}", counts.processes), false);
    fact("Failures", counts.failures.to_string(), counts.failures > 0);
    fact("Execs", counts.execs.to_string(), false);
    fact("Ports", counts.ports.to_string(), false);
    fact("Gaps", counts.gaps.to_string(), counts.gaps > 0);
    fact("Events", counts.events.to_string(), false);
    facts
}

/// The time of the report as the width of the timeline.
struct Scale<'a> {
    report: &'a Report,
    from_ns: u64,
    to_ns: u64,
}

impl Scale<'_> {
    fn row(&self, process: &Process) -> Row {
        let command = match process.is_fork {
            true => format!("(fork) {}", process.program.command),
            false => process.program.command.clone(),
        };
        let (left, width) = self.bar(process.bar);
        Row {
            depth: process.depth,
            pid: process.pid,
            full: cut(&command, FULL_MAX),
            command: cut(&command, COMMAND_MAX),
            origin: safe_text(process.origin_text().as_bytes()),
            tag: safe_text(process.origin_in_tree().as_bytes()),
            start: self.report.offset(process.start),
            duration: process.duration_ns.map_or("–".to_owned(), short_duration),
            status: safe_text(process.status_text().as_bytes()),
            is_bad: process.is_failure(),
            kind: match process.state {
                _ if process.is_failure() => "failed",
                State::Running => "running",
                State::Unknown => "unknown",
                State::Ended if process.is_fork => "fork",
                State::Ended => "program",
            },
            left,
            width,
        }
    }

    fn port(&self, port: &Port) -> PortRow {
        let owner = port.owners.first();
        let (left, width) = self.bar(port.bar);
        let (close, status) = match (port.state, port.close) {
            (State::Running, _) => ("open".to_owned(), "open"),
            (_, Some(close)) => (self.report.offset(Some(close)), "closed"),
            (_, None) => ("not seen".to_owned(), "close not seen"),
        };
        let took = port.open.zip(port.close).map(|(open, close)| close.0.saturating_sub(open.0));
        PortRow {
            endpoint: safe_text(port.endpoint().as_bytes()),
            scope: safe_text(port.scope.as_bytes()),
            open: self.report.offset(port.open),
            close,
            duration: took.map_or("–".to_owned(), short_duration),
            status,
            pid: owner.map_or("–".to_owned(), |owner| owner.pid.to_string()),
            program: owner
                .and_then(|owner| owner.executable.as_deref())
                .map_or("–".to_owned(), |path| cut(&safe_text(path.as_bytes()), FULL_MAX)),
            left,
            width,
        }
    }

    fn gap(&self, gap: &Gap) -> GapRow {
        GapRow {
            from: self.report.offset(Some(gap.from)),
            to: self.report.offset(Some(gap.to)),
            lost: gap.lost_text(),
            stage: safe_text(gap.stage.as_bytes()),
        }
    }

    fn tick(&self, part: u32) -> Tick {
        let at_ns = (self.to_ns - self.from_ns) / u64::from(TICKS) * u64::from(part);
        Tick { at: 100 / TICKS * part, text: self.report.offset(Some(Time(self.from_ns + at_ns))) }
    }

    /// Where a bar begins, and how wide it is, in percent.
    fn bar(&self, (start_ns, end_ns): (u64, u64)) -> (String, String) {
        let (left, right) = (self.percent(start_ns), self.percent(end_ns));
        (format!("{left:.3}"), format!("{:.3}", right - left))
    }

    /// A lossy conversion is enough for what is drawn.
    #[expect(clippy::cast_precision_loss, reason = "a part of a pixel does not matter")]
    fn percent(&self, time_ns: u64) -> f64 {
        match self.to_ns - self.from_ns {
            0 => 0.0,
            duration => (time_ns - self.from_ns) as f64 / duration as f64 * 100.0,
        }
    }

    /// The gaps as layers, each as wide as its time, and at least half a percent.
    fn layers(&self, gaps: &[Gap]) -> Layers {
        const LEAST: f64 = 0.5;
        let mut drawn: Vec<(f64, f64)> = Vec::new();
        for gap in gaps {
            let (left, right) = (self.percent(gap.from.0), self.percent(gap.to.0));
            let right = right.max(left + LEAST).min(100.0);
            let left = left.min(right - LEAST);
            match drawn.last_mut() {
                // What touches, or is too much to draw, becomes one.
                Some(last) if left <= last.1 + LEAST => last.1 = last.1.max(right),
                _ => drawn.push((left, right)),
            }
        }
        while drawn.len() > GAPS_DRAWN {
            let pairs = drawn.chunks(2);
            drawn = pairs.map(|pair| (pair[0].0, pair[pair.len() - 1].1)).collect();
        }
        if drawn.is_empty() {
            let none = || "none".to_owned();
            return Layers {
                images: none(),
                positions: "0 0".to_owned(),
                sizes: "auto".to_owned(),
            };
        }
        const HATCH: &str =
            "repeating-linear-gradient(45deg, var(--hatch) 0 3px, transparent 3px 6px)";
        let list = |of: &dyn Fn(f64, f64) -> String| {
            drawn.iter().map(|(left, right)| of(*left, *right)).collect::<Vec<_>>().join(", ")
        };
        Layers {
            images: list(&|_, _| HATCH.to_owned()),
            // CSS moves a layer by a part of the space that it leaves.
            positions: list(&|left, right| {
                let space = 100.0 - (right - left);
                let part = if space > 0.0 { left / space * 100.0 } else { 0.0 };
                format!("{part:.3}% 0")
            }),
            sizes: list(&|left, right| format!("{:.3}% 100%", right - left)),
        }
    }
}

fn date_and_time(time: Time) -> String {
    Clock::Utc.date_and_time(time.0)
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
