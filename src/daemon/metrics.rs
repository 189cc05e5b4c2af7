//! Metrics of the daemon and of the shims that it follows, as OpenMetrics text.
//!
//! No label has a pid, an argument or a name that a container chose. The tags and groups of
//! registered processes are labels, and `label_usage` bounds how many. So the number of time series
//! is bounded.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{history::HistoryFigures, label_usage::UsageByLabel, unpublished::UnpublishedEvents};
use crate::{
    api::{Event, event::Body},
    clock::realtime_ns,
    model::EVENT_TYPES,
};

/// A counter for each value of one label.
type CounterByLabel = Family<[(&'static str, &'static str); 1], Counter>;

/// The stages at which events can be lost, as gaps name them.
const GAP_STAGES: [&str; 6] = ["kernel", "source", "observer", "journal", "subscriber", "history"];

/// The counters of the daemon. A clone shares the counters with the original.
#[derive(Clone, Default)]
pub struct Metrics {
    events: CounterByLabel,
    gaps: CounterByLabel,
    lost: CounterByLabel,
    delay_ns: Arc<AtomicU64>,
}

/// The values that [`Metrics`] does not count, and that are read at each scrape.
#[derive(Debug, Clone, Default)]
pub struct ScrapeValues {
    /// Registry entries, including those of ended processes.
    pub entries: usize,
    /// Registry entries of living processes.
    pub living: usize,
    /// Requests that wait for the registry's thread.
    pub commands_waiting: usize,
    /// Lines that the slowest reader of the probe socket has not read yet.
    pub probe_waiting: usize,
    /// How many shims are followed, and how many of them are connected.
    pub shims: (usize, usize),
    /// Task events that containerd has not acknowledged.
    pub unpublished: UnpublishedEvents,
    /// The number of living processes, and the number of open ports, of all containers.
    pub container_counts: (usize, usize),
    /// The length of the stream's file in bytes.
    pub stream_bytes: u64,
    /// The history's figures; all 0 if it is off.
    pub history: HistoryFigures,
    /// Resident memory in bytes: of this process, and of all shims together.
    pub memory: (u64, u64),
    /// Open descriptors of this process; 0 if they could not be counted.
    pub fds: u32,
    /// Living registered processes with a tag or a group that were too many to be sampled.
    pub unsampled: usize,
    /// What the registered processes use, by tag and by group.
    pub usage: UsageByLabel,
}

impl Metrics {
    /// Counts an event that a shim has sent; a gap is also counted by its stage.
    pub fn count_event(&self, event: &Event) {
        let known = |all: &[&'static str], text: &str| {
            // The value of a label must be one of a fixed set: a broken shim could send any text.
            all.iter().copied().find(|one| *one == text).unwrap_or("other")
        };
        self.events.get_or_create(&[("type", known(&EVENT_TYPES, &event.type_))]).inc();
        if let Some(Body::Gap(gap)) = &event.body {
            let stage = [("stage", known(&GAP_STAGES, &gap.stage))];
            self.gaps.get_or_create(&stage).inc();
            self.lost.get_or_create(&stage).inc_by(gap.lost.unwrap_or_default());
        }
    }

    /// Notes that an event with this time, in nanoseconds since 1970, was written to the stream.
    pub fn note_event_written(&self, time_ns: u64) {
        let delay = realtime_ns().saturating_sub(time_ns);
        self.delay_ns.store(delay, Ordering::Relaxed);
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn openmetrics_text(&self, now: &ScrapeValues) -> String {
        let mut registry = Registry::with_prefix("lookout");
        registry.register(
            "events",
            "Events of the node's shims that were written to the stream",
            self.events.clone(),
        );
        registry.register("gaps", "Gaps in the stream of events", self.gaps.clone());
        registry.register("lost_events", "Events that gaps reported as lost", self.lost.clone());
        for (name, help, value) in [
            (
                "stream_delay",
                "Time between the last event in the kernel and its writing to the stream",
                Duration::from_nanos(self.delay_ns.load(Ordering::Relaxed)),
            ),
            (
                "oldest_unpublished",
                "Age of the oldest task event that containerd has not acknowledged",
                now.unpublished.oldest,
            ),
        ] {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value.as_secs_f64());
            registry.register_with_unit(name, help, Unit::Seconds, gauge);
        }
        now.history.register(&mut registry);
        for (name, help, unit, value) in now.gauges() {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, gauge),
                None => registry.register(name, help, gauge),
            }
        }
        now.usage.register(&mut registry);
        let mut text = String::with_capacity(4096);
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// The name, help text, unit and value of a gauge.
type GaugeRow = (&'static str, &'static str, Option<Unit>, u64);

impl ScrapeValues {
    fn gauges(&self) -> [GaugeRow; 16] {
        let Self { shims, unpublished, container_counts, memory, .. } = self;
        let count = |number: usize| number as u64;
        let bytes = || Some(Unit::Bytes);
        [
            ("entries", "Registered processes, including ended ones", None, count(self.entries)),
            ("living_entries", "Registered processes that are alive", None, count(self.living)),
            (
                "commands_waiting",
                "Requests that wait for the registry's thread",
                None,
                count(self.commands_waiting),
            ),
            (
                "probe_lines_waiting",
                "Lines that the slowest reader of the probe socket has not read",
                None,
                count(self.probe_waiting),
            ),
            ("shims", "Shims that are followed", None, count(shims.0)),
            ("shims_connected", "Shims that are followed and connected", None, count(shims.1)),
            (
                "shims_answering",
                "Shims that reported their unpublished task events",
                None,
                count(unpublished.shims),
            ),
            (
                "unpublished_events",
                "Task events that containerd has not acknowledged",
                None,
                unpublished.events,
            ),
            ("unpublished", "Size of the unpublished task events", bytes(), unpublished.bytes),
            (
                "container_processes",
                "Living processes of containers",
                None,
                count(container_counts.0),
            ),
            ("container_ports", "Open ports of containers", None, count(container_counts.1)),
            ("stream_file", "Length of the stream's file", bytes(), self.stream_bytes),
            ("resident_memory", "Resident memory of this daemon", bytes(), memory.0),
            ("shims_resident_memory", "Resident memory of all shims", bytes(), memory.1),
            ("open_descriptors", "Open descriptors of this daemon", None, u64::from(self.fds)),
            (
                "unsampled_entries",
                "Registered processes that are in no series of their tags and groups",
                None,
                count(self.unsampled),
            ),
        ]
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Gap;

    /// Check the text: events by type, losses by stage, and no label that a shim invented.
    #[test]
    fn the_text_has_all_counters_and_gauges() {
        let metrics = Metrics::default();
        for type_ in ["process.start", "process.start", "made.up"] {
            metrics.count_event(&Event { type_: type_.into(), ..Default::default() });
        }
        let gap = Gap { lost: Some(7), stage: "kernel".into(), ..Default::default() };
        let event = Event {
            type_: "observer.gap".into(),
            body: Some(Body::Gap(gap)),
            ..Default::default()
        };
        metrics.count_event(&event);
        let unpublished = UnpublishedEvents {
            shims: 2,
            events: 9,
            bytes: 800,
            oldest: Duration::from_millis(2500),
        };
        let text = metrics.openmetrics_text(&ScrapeValues {
            shims: (3, 2),
            unpublished,
            container_counts: (5, 4),
            ..ScrapeValues::default()
        });
        for line in [
            "lookout_events_total{type=\"process.start\"} 2",
            "lookout_events_total{type=\"other\"} 1",
            "lookout_lost_events_total{stage=\"kernel\"} 7",
            "lookout_gaps_total{stage=\"kernel\"} 1",
            "lookout_shims 3",
            "lookout_shims_connected 2",
            "lookout_shims_answering 2",
            "lookout_unpublished_events 9",
            "lookout_unpublished_bytes 800",
            "lookout_oldest_unpublished_seconds 2.5",
            "lookout_container_processes 5",
            "lookout_container_ports 4",
            "lookout_resident_memory_bytes 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("made.up"));
    }
}
