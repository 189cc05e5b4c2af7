//! Numbers about the daemon and what it follows, as OpenMetrics text. No label has a pid, an
//! argument or a name that a container chose.

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

use super::unpublished::Unpublished;
use crate::{
    api::{Event, event::Body},
    clock::realtime_ns,
    model::EVENT_TYPES,
};

type ByLabel = Family<[(&'static str, &'static str); 1], Counter>;

/// Where something can be lost, as gaps name it.
const STAGES: [&str; 5] = ["kernel", "source", "observer", "journal", "subscriber"];

/// Counters, shared by those that count.
#[derive(Clone, Default)]
pub struct Metrics {
    events: ByLabel,
    gaps: ByLabel,
    lost: ByLabel,
    delay_ns: Arc<AtomicU64>,
}

/// What is read at a scrape.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Registered, ended ones too.
    pub entries: usize,
    /// Registered and alive.
    pub living: usize,
    /// Commands that wait for the registry's thread.
    pub commands_waiting: usize,
    /// Lines that wait for the slowest reader of the probe socket.
    pub probe_waiting: usize,
    /// Shims that are followed, and those of them whose stream is connected.
    pub shims: (usize, usize),
    /// What shims could not yet give to containerd.
    pub unpublished: Unpublished,
    /// Processes and open ports of containers.
    pub contained: (usize, usize),
    /// Bytes of the stream's file.
    pub stream_bytes: u64,
    /// Resident memory of this process, and of the shims together.
    pub memory: (u64, u64),
    /// Descriptors of this process.
    pub fds: u32,
}

impl Metrics {
    /// Counts an event of a shim.
    pub fn count(&self, event: &Event) {
        let known = |all: &[&'static str], text: &str| {
            all.iter().copied().find(|one| *one == text).unwrap_or("other")
        };
        self.events.get_or_create(&[("type", known(&EVENT_TYPES, &event.type_))]).inc();
        if let Some(Body::Gap(gap)) = &event.body {
            let stage = [("stage", known(&STAGES, &gap.stage))];
            self.gaps.get_or_create(&stage).inc();
            self.lost.get_or_create(&stage).inc_by(gap.lost.unwrap_or_default());
        }
    }

    /// Notes that events up to one of this time were written.
    pub fn written(&self, time_ns: u64) {
        let delay = realtime_ns().saturating_sub(time_ns);
        self.delay_ns.store(delay, Ordering::Relaxed);
    }

    /// All of it.
    #[must_use]
    pub fn text(&self, now: &Now) -> String {
        let mut registry = Registry::with_prefix("lookout");
        registry.register(
            "events",
            "Events of the node's shims that were written",
            self.events.clone(),
        );
        registry.register("gaps", "Gaps in the events", self.gaps.clone());
        registry.register("lost_events", "Events that were counted as lost", self.lost.clone());
        let mut seconds = |name: &str, help: &str, value: Duration| {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value.as_secs_f64());
            registry.register_with_unit(name, help, Unit::Seconds, gauge);
        };
        let delay = Duration::from_nanos(self.delay_ns.load(Ordering::Relaxed));
        seconds(
            "stream_delay",
            "From the kernel's event until it was written, of the last one",
            delay,
        );
        let unpublished = now.unpublished;
        seconds(
            "oldest_unpublished",
            "How old the oldest task event is that containerd has not got",
            unpublished.oldest,
        );
        let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, gauge),
                None => registry.register(name, help, gauge),
            }
        };
        gauge("entries", "Registered processes, ended ones too", None, now.entries as u64);
        gauge("living_entries", "Registered processes that live", None, now.living as u64);
        gauge(
            "commands_waiting",
            "Commands that wait for the registry",
            None,
            now.commands_waiting as u64,
        );
        gauge(
            "probe_lines_waiting",
            "Lines that wait for the probe socket's readers",
            None,
            now.probe_waiting as u64,
        );
        gauge("shims", "Shims that are followed", None, now.shims.0 as u64);
        gauge("shims_connected", "Shims whose events arrive", None, now.shims.1 as u64);
        gauge(
            "shims_answering",
            "Shims that said what they have unpublished",
            None,
            unpublished.shims as u64,
        );
        gauge(
            "unpublished_events",
            "Task events that containerd has not got",
            None,
            unpublished.events,
        );
        gauge("unpublished", "What these take", Some(Unit::Bytes), unpublished.bytes);
        gauge(
            "container_processes",
            "Processes that live in containers",
            None,
            now.contained.0 as u64,
        );
        gauge("container_ports", "Ports that are open in containers", None, now.contained.1 as u64);
        gauge("stream_file", "The file of events", Some(Unit::Bytes), now.stream_bytes);
        gauge("resident_memory", "Of this daemon", Some(Unit::Bytes), now.memory.0);
        gauge("shims_resident_memory", "Of all shims together", Some(Unit::Bytes), now.memory.1);
        gauge("open_descriptors", "Of this daemon", None, u64::from(now.fds));
        let mut text = String::with_capacity(4096);
        // A string takes everything that is written to it.
        let _ = encode(&mut text, &registry);
        text
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

    /// Check the text: events by type, losses by stage, and nothing that a shim made up as a label.
    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::default();
        for type_ in ["process.start", "process.start", "made.up"] {
            metrics.count(&Event { type_: type_.into(), ..Default::default() });
        }
        let gap = Gap { lost: Some(7), stage: "kernel".into(), ..Default::default() };
        let event = Event {
            type_: "observer.gap".into(),
            body: Some(Body::Gap(gap)),
            ..Default::default()
        };
        metrics.count(&event);
        let unpublished =
            Unpublished { shims: 2, events: 9, bytes: 800, oldest: Duration::from_millis(2500) };
        let text =
            metrics.text(&Now { shims: (3, 2), unpublished, contained: (5, 4), ..Now::default() });
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
