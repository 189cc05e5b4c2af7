//! Sends a selection of the events to containerd's bus.
//!
//! ```text
//!  event log ──► [Bus] ──► publish, best effort ──► containerd
//!                  │ selected? token in the bucket?
//!                  └ no token: counted, and reported once a second at most, as an event
//! ```
//!
//! [`Bus`] is pure: it decides and encodes, and receives the time as an argument. [`run`] reads the
//! event log and sends. It waits for the event log only, and has a timer only while a report of
//! withheld events is due.
//!
//! The bus is for task events. The observer's events are limited to a rate, never delay a task
//! event, and may be dropped. A client that needs all of them subscribes to the stream.

mod spec;

use std::{sync::Arc, time::Duration};

pub use spec::TYPE_URL;

use crate::{
    api,
    clock::realtime_ns,
    config::BusEvents,
    model::{Backend, Body, Event, Grade},
    observe::stream::{Batch, EventLog, FilterSpec, ReadBounds, SubscriptionRequest},
    publish::Publisher,
    token_bucket::TokenBucket,
};

/// The topic of `process.start` and `process.exec`: a process runs an image.
pub const PROCESS_START_TOPIC: &str = "/lookout/process-start";
/// The topic of `process.exit`: a process has ended.
pub const PROCESS_EXIT_TOPIC: &str = "/lookout/process-exit";
/// The topic of `port.open`.
pub const PORT_OPEN_TOPIC: &str = "/lookout/port-open";
/// The topic of `port.close`.
pub const PORT_CLOSE_TOPIC: &str = "/lookout/port-close";
/// The topic of `observer.gap` and `observer.throttle`: events are missing, from all subscribers or
/// from the bus alone.
pub const GAP_TOPIC: &str = "/lookout/gap";

/// The type of the event that reports the events which the rate limit has withheld from the bus.
const THROTTLE_TYPE: &str = "observer.throttle";

/// The shortest time between two reports of withheld events, in nanoseconds.
const THROTTLE_INTERVAL_NS: u64 = 1_000_000_000;

/// How much one read of the event log returns. Further events wait in the journal of the event log.
const READ_BOUNDS: ReadBounds = ReadBounds { events: 256, bytes: 256 << 10 };

/// The rate limit of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The number of events per second that are sent over a long time.
    pub per_second: u32,
    /// The number of events that are sent at once, after a time without events.
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { per_second: 100, burst: 200 }
    }
}

/// An event in the form that is sent to the bus: a message of type [`TYPE_URL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    /// The topic, one of the constants of this module.
    pub topic: &'static str,
    /// The message: JSON of an OCI runtime specification.
    pub value: Vec<u8>,
}

/// Selects and encodes events of one shim for the bus, and limits their rate. All times are
/// nanoseconds of one monotonic clock.
#[derive(Debug)]
pub struct Bus {
    selection: BusEvents,
    bucket: TokenBucket,
    /// The number of events that were withheld since the last report.
    withheld: u64,
    /// The time at which the first event in `withheld` was withheld, in nanoseconds.
    since_ns: u64,
    /// The time of the last report of withheld events; `None` before the first.
    last_throttle_ns: Option<u64>,
}

impl Bus {
    /// A bus that has sent nothing yet, so that it can send a burst.
    #[must_use]
    pub fn new(selection: BusEvents, rate: RateLimit) -> Self {
        Self {
            selection,
            bucket: TokenBucket::new(rate.burst, rate.per_second, 1_000_000_000),
            withheld: 0,
            since_ns: 0,
            last_throttle_ns: None,
        }
    }

    /// The event types to subscribe to; empty if nothing is selected.
    #[must_use]
    pub fn types(&self) -> &'static [&'static str] {
        match self.selection {
            BusEvents::None => &[],
            BusEvents::Ports => &["observer.gap", THROTTLE_TYPE, "port.*"],
            BusEvents::Processes => &[
                "observer.gap",
                THROTTLE_TYPE,
                "port.*",
                "process.start",
                "process.exec",
                "process.exit",
            ],
        }
    }

    /// Encodes an event for the bus. Returns `None` if the event is not selected, or if the rate
    /// limit withholds it; a withheld event is counted.
    pub fn admit(&mut self, event: &api::Event, now_ns: u64) -> Option<BusEvent> {
        let topic = match event.type_.as_str() {
            "process.start" | "process.exec" if self.selection == BusEvents::Processes => {
                PROCESS_START_TOPIC
            }
            "process.exit" if self.selection == BusEvents::Processes => PROCESS_EXIT_TOPIC,
            "port.open" if self.selection != BusEvents::None => PORT_OPEN_TOPIC,
            "port.close" if self.selection != BusEvents::None => PORT_CLOSE_TOPIC,
            "observer.gap" | THROTTLE_TYPE if self.selection != BusEvents::None => GAP_TOPIC,
            _ => return None,
        };
        // A report of withheld events is limited by `THROTTLE_INTERVAL_NS` instead. It must be sent
        // even when no token is left.
        if event.type_ != THROTTLE_TYPE && !self.bucket.take(now_ns) {
            self.withhold(1, now_ns);
            return None;
        }
        Some(BusEvent { topic, value: spec::encode(event) })
    }

    /// Counts selected events that are not sent to the bus.
    pub fn withhold(&mut self, events: u64, now_ns: u64) {
        if self.withheld == 0 {
            self.since_ns = now_ns;
        }
        self.withheld += events;
    }

    /// The time at which [`take_report`](Self::take_report) returns the next report; `None` if
    /// nothing is withheld.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        // The first report is due at once, each later one an interval after the one before it.
        let due = self.last_throttle_ns.map_or(self.since_ns, |last| {
            last.saturating_add(THROTTLE_INTERVAL_NS).max(self.since_ns)
        });
        (self.withheld > 0).then_some(due)
    }

    /// Returns a report of the events that were withheld since the last one; `None` if none is due.
    /// The caller appends it to the event log, from which it returns to [`admit`](Self::admit) with
    /// a sequence number.
    pub fn take_report(&mut self, now_ns: u64) -> Option<Body> {
        if self.due_ns()? > now_ns {
            return None;
        }
        let withheld = std::mem::take(&mut self.withheld);
        self.last_throttle_ns = Some(now_ns);
        Some(Body::Throttle { withheld, over_ns: now_ns.saturating_sub(self.since_ns) })
    }
}

/// Sends the events that `bus` selects until the event log is closed. `monotonic_ns` reads
/// `CLOCK_MONOTONIC`, in nanoseconds.
///
/// Events that containerd did not accept are counted as withheld too. They are noticed when the
/// next selected event arrives.
pub async fn run(
    event_log: &Arc<EventLog>,
    publisher: &Publisher,
    mut bus: Bus,
    monotonic_ns: impl Fn() -> u64,
) {
    let types: Vec<String> = bus.types().iter().map(|name| (*name).to_owned()).collect();
    // `bus = none`: no subscription, and so no wake-ups.
    if types.is_empty() {
        return;
    }
    let filters = vec![FilterSpec { types, ..FilterSpec::default() }];
    let request = SubscriptionRequest { filters, internal: true, ..SubscriptionRequest::default() };
    // Only an invalid filter or cursor is refused, and an internal subscriber has no limit.
    let Ok(mut subscription) = event_log.subscribe(request) else { return };
    loop {
        let due = bus.due_ns().map(|due| Duration::from_nanos(due.saturating_sub(monotonic_ns())));
        let read = tokio::select! {
            read = subscription.next(READ_BOUNDS) => read,
            // An empty batch, so that the report is made below.
            () = sleep_until_due(due) => Some(Batch::default()),
        };
        let Some(batch) = read else { return };
        let now_ns = monotonic_ns();
        let missed: u64 = batch.gaps.iter().filter_map(|gap| gap.lost).sum();
        let unsent = match batch.decoded() {
            Ok(events) => {
                events.iter().filter(|event| !send(publisher, &mut bus, event, now_ns)).count()
            }
            // The event log has encoded the batch itself. If the batch cannot be decoded
            // nevertheless, all its events count as withheld.
            Err(_) => batch.count,
        };
        // These events count as withheld too: those evicted before they were read, those refused by
        // the full queue, and those not accepted by containerd.
        bus.withhold(missed + unsent as u64 + publisher.take_dropped_count(), now_ns);
        if let Some(body) = bus.take_report(now_ns) {
            event_log.append(&mut vec![shim_event(body, now_ns)]);
        }
    }
}

/// Sends an event if the bus admits it. Returns `false` if the publisher's queue was full. A report
/// of withheld events always counts as sent: if its loss were counted, another report would follow.
fn send(publisher: &Publisher, bus: &mut Bus, event: &api::Event, now_ns: u64) -> bool {
    let Some(BusEvent { topic, value }) = bus.admit(event, now_ns) else { return true };
    publisher.send_best_effort(topic, TYPE_URL, value) || event.type_ == THROTTLE_TYPE
}

/// Sleeps for a duration; for ever without one.
async fn sleep_until_due(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// An event of the shim itself, without a container.
fn shim_event(body: Body, monotonic_ns: u64) -> Event {
    Event {
        monotonic_ns,
        realtime_ns: realtime_ns(),
        grade: Grade::Exact,
        source: Backend::Shim,
        container: None,
        body,
    }
}

#[cfg(test)]
mod tests;
