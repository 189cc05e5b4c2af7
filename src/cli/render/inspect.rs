//! The output of `lookout inspect`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{
    events::{self, EventRows},
    ports, tree,
};
use crate::{
    api::{
        Container, ContainerClose, ContainerPort, ContainerProcess, Event, Gap, IgnoredSetting,
        Process, StatusResponse, event::Body,
    },
    cli::{
        args::{Format, PageFormat},
        output::Style,
    },
    client::{Registration, json},
    model::printable,
};

/// How many events and failed processes the page shows. It shows the newest.
const EVENTS_SHOWN: usize = 10;
const FAILURES_SHOWN: usize = 5;

/// What is known of one container.
#[derive(Debug, Default)]
pub(in crate::cli) struct Inspected {
    pub(in crate::cli) container: Container,
    /// `None` if the container has ended, and only the daemon's history knows it.
    pub(in crate::cli) shim: Option<Registration>,
    pub(in crate::cli) capabilities: Vec<json::Capability>,
    /// `None` if the shim did not report its status.
    pub(in crate::cli) status: Option<StatusResponse>,
    pub(in crate::cli) processes: Vec<ContainerProcess>,
    pub(in crate::cli) ports: Vec<ContainerPort>,
    pub(in crate::cli) is_idle: bool,
    /// The events of the container in the journal and in the history, oldest first.
    pub(in crate::cli) events: Vec<Event>,
    pub(in crate::cli) lost: LostEvents,
}

/// How many events of a container are missing, because the journal no longer has them or has
/// dropped them while it was read.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::cli) struct LostEvents {
    /// How many events were lost; `None` if one of the gaps has no count.
    events: Option<u64>,
    gaps: u64,
}

impl Default for LostEvents {
    fn default() -> Self {
        Self { events: Some(0), gaps: 0 }
    }
}

impl LostEvents {
    pub(in crate::cli) fn is_any(self) -> bool {
        self.gaps > 0
    }

    pub(in crate::cli) fn add_gap(&mut self, gap: &Gap) {
        self.events = self.events.zip(gap.lost).map(|(sum, lost)| sum.saturating_add(lost));
        self.gaps += 1;
    }
}

#[derive(Serialize)]
struct JsonPage<'a> {
    namespace: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image: &'a str,
    /// running, exited, deleted or unknown.
    state: &'static str,
    idle: bool,
    /// The status of init, if it has exited and that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
    failures: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    shim: Option<JsonShim<'a>>,
    capabilities: &'a [json::Capability],
    processes: Vec<json::ListedProcess>,
    ports: Vec<json::OpenPort>,
    events: Vec<json::Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<LostEvents>,
}

#[derive(Serialize)]
struct JsonShim<'a> {
    id: &'a str,
    pid: i32,
    address: &'a str,
    epoch: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unpublished: Option<JsonUnpublished>,
}

/// Task events that containerd has not acknowledged.
#[derive(Serialize)]
struct JsonUnpublished {
    events: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ns: Option<u64>,
}

/// Formats the page that describes a container.
pub(in crate::cli) fn page(known: &Inspected, format: PageFormat, style: Style) -> String {
    let first = known.events.len().saturating_sub(EVENTS_SHOWN);
    let newest = known.events.get(first..).unwrap_or_default();
    match format {
        PageFormat::Json => json_page(known, newest),
        PageFormat::Table => text_page(known, newest, style),
    }
}

fn json_page(known: &Inspected, newest: &[Event]) -> String {
    let facts = Facts::of(known);
    let shim = known.shim.as_ref().map(|shim| JsonShim {
        id: &shim.id,
        pid: shim.pid,
        address: &shim.address,
        epoch: &shim.epoch,
        version: &shim.version,
        unpublished: known.status.as_ref().map(|status| JsonUnpublished {
            events: status.unpublished_events,
            bytes: status.unpublished_bytes,
            oldest_ns: status.oldest_unpublished_ns,
        }),
    });
    let page = JsonPage {
        namespace: &known.container.namespace,
        id: &known.container.id,
        name: &known.container.name,
        image: &known.container.image,
        state: facts.state.as_str(),
        idle: known.is_idle,
        status: facts.exit.and_then(|(_, init)| init.ended.as_ref()?.status),
        failures: facts.failures.len(),
        shim,
        capabilities: &known.capabilities,
        processes: known.processes.iter().map(json::ListedProcess::from).collect(),
        ports: known.ports.iter().map(json::OpenPort::from).collect(),
        events: newest.iter().map(json::Event::from).collect(),
        lost: known.lost.is_any().then_some(known.lost),
    };
    json::to_line(&page) + "\n"
}

/// What the events of a container show about it.
struct Facts<'a> {
    state: State,
    /// The first program of init, and when it began.
    init: Option<(&'a Event, &'a Process)>,
    /// The exit of init.
    exit: Option<(&'a Event, &'a Process)>,
    /// Since when the container is idle.
    idle_since_ns: Option<u64>,
    /// The exits with a status other than 0.
    failures: Vec<&'a Event>,
    account: Option<&'a ContainerClose>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Exited,
    Deleted,
    /// The shim has ended, and neither an exit nor a deletion was seen.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }
}

impl<'a> Facts<'a> {
    fn of(known: &'a Inspected) -> Self {
        let mut facts = Self {
            state: if known.shim.is_some() { State::Running } else { State::Unknown },
            init: None,
            exit: None,
            idle_since_ns: None,
            failures: Vec::new(),
            account: None,
        };
        for event in &known.events {
            match &event.body {
                Some(Body::Process(process)) => facts.note(event, process),
                Some(Body::ContainerIdle(idle)) => {
                    facts.idle_since_ns = Some(event.time_ns.saturating_sub(idle.quiet_ns));
                }
                Some(Body::ContainerActive(_)) => facts.idle_since_ns = None,
                Some(Body::ContainerClose(account)) => facts.account = Some(account),
                _ => {}
            }
        }
        if facts.account.is_some() {
            facts.state = State::Deleted;
        } else if facts.exit.is_some() {
            facts.state = State::Exited;
        }
        facts
    }

    fn note(&mut self, event: &'a Event, process: &'a Process) {
        let is_init = process.origin == "init";
        match event.type_.as_str() {
            "process.start" | "process.exec" if is_init => {
                self.init.get_or_insert((event, process));
            }
            "process.exit" => {
                if is_init {
                    self.exit = Some((event, process));
                }
                if events::is_failure(event) {
                    self.failures.push(event);
                }
            }
            _ => {}
        }
    }

    /// The state in words, with times.
    fn text(&self, is_idle: bool, style: Style) -> String {
        let at = |time_ns: u64| style.clock.date_and_time(time_ns);
        let mut text = match (self.state, self.exit) {
            (State::Running, _) => "running".to_owned(),
            (State::Unknown, _) => "unknown: its shim has ended, and no exit was seen".to_owned(),
            (State::Exited, _) => "exited".to_owned(),
            (State::Deleted, _) => "deleted".to_owned(),
        };
        if let Some((event, init)) = self.exit {
            text += &format!(": {} at {}", events::end_text(init), at(event.time_ns));
            if let Some(ran) = events::run_time_ns(event) {
                text += &format!(", after {}", events::run_time_text(ran));
            }
        } else if is_idle {
            text += ", idle";
            if let Some(since_ns) = self.idle_since_ns {
                text += &format!(" since {}", at(since_ns));
            }
        }
        text
    }
}

fn text_page(known: &Inspected, newest: &[Event], style: Style) -> String {
    let facts = Facts::of(known);
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // A terminal wraps a long value, which is better than a part of an id or of a reason.
        text.push_str(&format!("{name:<12}{}\n", printable::safe_text(value.as_bytes())));
    };
    let Container { id, namespace, name, image, k8s, annotations, .. } = &known.container;
    field("container", id);
    field("namespace", namespace);
    if let Some(k8s) = k8s.as_ref() {
        field("pod", &format!("{}/{}", k8s.namespace, k8s.pod_name));
        if !k8s.container_name.is_empty() {
            field("name in pod", &k8s.container_name);
        }
    }
    for (title, value) in [("name", name), ("image", image)] {
        if !value.is_empty() {
            field(title, value);
        }
    }
    if let Some((event, init)) = facts.init {
        field("command", &events::command_text(init));
        field("started", &style.clock.date_and_time(event.time_ns));
        if !init.cgroup.is_empty() {
            field("cgroup", &init.cgroup);
        }
    }
    field("state", &facts.text(known.is_idle, style));
    for annotation in annotations {
        field("annotation", &format!("{}={}", annotation.key, annotation.value));
    }
    if let Some(shim) = &known.shim {
        field("shim", &format!("{}, pid {}, version {}", shim.id, shim.pid, shim.version));
        field("address", &shim.address);
    }
    if let Some(status) = &known.status {
        field("unpublished", &unpublished_text(status));
    }
    for one in &known.capabilities {
        field(&one.category, &format!("{} ({}): {}", one.support, one.backend, one.reason));
    }
    for ignored in known.events.iter().flat_map(ignored_settings) {
        field("ignored", &format!("{}: {}", ignored.key, ignored.reason));
    }
    for one in &known.ports {
        field("port", &ports::port_text(one.port.get_or_default(), false));
    }
    if let Some(account) = facts.account {
        field("account", &account_text(account));
    }
    if known.lost.is_any() {
        let LostEvents { events, gaps } = known.lost;
        let events = match events {
            Some(1) => "1 event".to_owned(),
            Some(lost) => format!("{lost} events"),
            None => "an unknown number of events".to_owned(),
        };
        let gaps = if gaps == 1 { "1 gap".to_owned() } else { format!("{gaps} gaps") };
        text.push_str(&style.highlight_failure(format!("{:<12}{events}, in {gaps}", "lost")));
        text.push('\n');
    }
    if known.shim.is_some() {
        text.push_str(&format!("\nprocesses   {}\n", known.processes.len()));
        let trees = tree::format_trees(&known.processes, Style { is_quiet: true, ..style });
        text.push_str(&trees);
    }
    let shown = facts.failures.len().saturating_sub(FAILURES_SHOWN);
    let last: Vec<&Event> = facts.failures.iter().skip(shown).copied().collect();
    if !last.is_empty() {
        text.push_str(&format!(
            "\nfailures    the last {} of {}\n",
            last.len(),
            facts.failures.len()
        ));
        push_rows(&last, style, &mut text);
    }
    text.push_str(&format!("\nevents      the last {} of {}\n", newest.len(), known.events.len()));
    push_rows(&newest.iter().collect::<Vec<_>>(), style, &mut text);
    text
}

fn push_rows(shown: &[&Event], style: Style, text: &mut String) {
    let mut rows = EventRows::new(Format::Table, style);
    shown.iter().for_each(|event| text.push_str(&rows.format(event)));
}

fn account_text(account: &ContainerClose) -> String {
    let count =
        |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let ContainerClose { seen, delivered, lost, .. } = account;
    format!("{} records seen = {delivered} delivered + {} lost", count(*seen), count(*lost))
}

/// The settings of the container that were ignored.
fn ignored_settings(event: &Event) -> &[IgnoredSetting] {
    match &event.body {
        Some(Body::ContainerStart(start)) => &start.ignored_settings,
        _ => &[],
    }
}

/// Describes the task events that containerd has not acknowledged.
fn unpublished_text(status: &StatusResponse) -> String {
    let count = status.unpublished_events;
    let events = if count == 1 { "event" } else { "events" };
    match status.oldest_unpublished_ns {
        Some(oldest_ns) => {
            let age = (SystemTime::UNIX_EPOCH + Duration::from_nanos(oldest_ns))
                .elapsed()
                .unwrap_or_default();
            format!("{count} task {events}, the oldest for {:.1} s", age.as_secs_f64())
        }
        None => format!("{count} task {events}"),
    }
}
