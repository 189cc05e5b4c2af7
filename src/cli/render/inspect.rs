//! The output of `lookout inspect`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{events::EventRows, tree};
use crate::{
    api::{Container, ContainerProcess, Event, Gap, IgnoredSetting, StatusResponse, event::Body},
    cli::{
        args::{Format, PageFormat},
        output::Style,
    },
    client::{Registration, json},
    model::printable,
};

/// How many events the page shows. It shows the newest.
const EVENTS_SHOWN: usize = 10;

/// What a shim and its journal know of one container.
#[derive(Debug, Default)]
pub(in crate::cli) struct Inspected {
    pub(in crate::cli) container: Container,
    pub(in crate::cli) capabilities: Vec<json::Capability>,
    /// `None` if the shim did not report its status.
    pub(in crate::cli) status: Option<StatusResponse>,
    pub(in crate::cli) processes: Vec<ContainerProcess>,
    pub(in crate::cli) is_idle: bool,
    /// The events of the container in the journal, oldest first.
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
    idle: bool,
    shim: JsonShim<'a>,
    capabilities: &'a [json::Capability],
    processes: Vec<json::ListedProcess>,
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
pub(in crate::cli) fn page(
    shim: &Registration,
    known: &Inspected,
    format: PageFormat,
    style: Style,
) -> String {
    let first = known.events.len().saturating_sub(EVENTS_SHOWN);
    let newest = known.events.get(first..).unwrap_or_default();
    match format {
        PageFormat::Json => json_page(shim, known, newest),
        PageFormat::Table => text_page(shim, known, newest, style),
    }
}

fn json_page(shim: &Registration, known: &Inspected, newest: &[Event]) -> String {
    let page = JsonPage {
        namespace: &known.container.namespace,
        id: &known.container.id,
        idle: known.is_idle,
        shim: JsonShim {
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
        },
        capabilities: &known.capabilities,
        processes: known.processes.iter().map(json::ListedProcess::from).collect(),
        events: newest.iter().map(json::Event::from).collect(),
        lost: known.lost.is_any().then_some(known.lost),
    };
    json::to_line(&page) + "\n"
}

fn text_page(shim: &Registration, known: &Inspected, newest: &[Event], style: Style) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // A terminal wraps a long value, which is better than a part of an id or of a reason.
        text.push_str(&format!("{name:<12}{}\n", printable::safe_text(value.as_bytes())));
    };
    field("container", &known.container.id);
    field("namespace", &known.container.namespace);
    if let Some(k8s) = known.container.k8s.as_ref() {
        field("pod", &format!("{}/{}", k8s.namespace, k8s.pod_name));
        if !k8s.container_name.is_empty() {
            field("name in pod", &k8s.container_name);
        }
    }
    field("shim", &format!("{}, pid {}, version {}", shim.id, shim.pid, shim.version));
    field("address", &shim.address);
    if let Some(status) = &known.status {
        field("unpublished", &unpublished_text(status));
    }
    for one in &known.capabilities {
        field(&one.category, &format!("{} ({}): {}", one.support, one.backend, one.reason));
    }
    for ignored in known.events.iter().flat_map(ignored_settings) {
        field("ignored", &format!("{}: {}", ignored.key, ignored.reason));
    }
    let closed =
        known.events.iter().rev().find(|event| matches!(event.body, Some(Body::ContainerClose(_))));
    field(
        "state",
        if closed.is_some() {
            "closed"
        } else if known.is_idle {
            "open, idle"
        } else {
            "open"
        },
    );
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
    text.push_str(&format!("\nprocesses   {}\n", known.processes.len()));
    text.push_str(&tree::format_trees(&known.processes, Style { is_quiet: true, ..style }));
    text.push_str(&format!("\nevents      the last {} of {}\n", newest.len(), known.events.len()));
    let mut rows = EventRows::new(Format::Table, style);
    newest.iter().for_each(|event| text.push_str(&rows.format(event)));
    text
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
