//! What of all events goes on containerd's bus, and in which form.
//!
//! ```text
//!  event_log ──► [Bus] ──► publish, unjournaled ──► containerd
//!           │ chosen? room in the bucket?
//!           └ no room: counted, told once a second at most, on the bus and in the stream
//! ```
//!
//! [`Bus`] is pure: it decides and encodes, and is told the time. [`run`] is the thin part that
//! follows the event_log and sends; it waits for the event_log alone, and has a timer only while something was
//! withheld.
//!
//! The bus belongs to task events. Ours are bounded to a rate, never wait in front of one, and may
//! be dropped; whoever needs all of them follows the stream.

mod bucket;
mod spec;

use std::{sync::Arc, time::Duration};

pub use spec::TYPE_URL;

use crate::{
    api,
    clock::realtime_ns,
    model::{Backend, Body, Event, Grade},
    observe::stream::{Batch, Bounds, EventLog, Request, Wanted},
    publish::Publisher,
};
use bucket::Bucket;

/// A process runs an image.
pub const PROCESS_START: &str = "/lookout/process-start";
/// A process has ended.
pub const PROCESS_EXIT: &str = "/lookout/process-exit";
/// A port opened.
pub const PORT_OPEN: &str = "/lookout/port-open";
/// A port closed.
pub const PORT_CLOSE: &str = "/lookout/port-close";
/// Something is missing: from all events, or from the bus.
pub const GAP: &str = "/lookout/gap";

/// The type of the news that something was withheld.
const THROTTLE: &str = "observer.throttle";

/// How often it is told at most what was withheld.
const TELL_NS: u64 = 1_000_000_000;

/// What is taken from the event_log at once; the rest waits in the event_log's journal.
const READ: Bounds = Bounds { events: 256, bytes: 256 << 10 };

/// What the bus carries: the key `bus` of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Carries {
    /// Nothing of ours.
    None,
    /// Listening ports, and gaps.
    #[default]
    Ports,
    /// That, and every start and exit of a process.
    Processes,
}

/// How many events a second the bus gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_second: 100, burst: 200 }
    }
}

/// An event in the form of the bus: a message of type [`TYPE_URL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    /// Where.
    pub topic: &'static str,
    /// JSON.
    pub value: Vec<u8>,
}

/// Decides and encodes, of one shim. Times are nanoseconds of one clock that never goes back.
#[derive(Debug)]
pub struct Bus {
    carries: Carries,
    bucket: Bucket,
    withheld: u64,
    /// When the first of `withheld` was.
    since_ns: u64,
    told_ns: Option<u64>,
}

impl Bus {
    /// Nothing withheld yet.
    #[must_use]
    pub fn new(carries: Carries, rate: Rate) -> Self {
        Self { carries, bucket: Bucket::new(rate), withheld: 0, since_ns: 0, told_ns: None }
    }

    /// The types of events that it may choose from; none where it carries nothing.
    #[must_use]
    pub fn types(&self) -> &'static [&'static str] {
        match self.carries {
            Carries::None => &[],
            Carries::Ports => &["observer.gap", THROTTLE, "port.*"],
            Carries::Processes => &[
                "observer.gap",
                THROTTLE,
                "port.*",
                "process.start",
                "process.exec",
                "process.exit",
            ],
        }
    }

    /// The event as the bus gets it; `None` where it is not for the bus, or where there is no room
    /// for it.
    pub fn take(&mut self, event: &api::Event, now_ns: u64) -> Option<BusEvent> {
        let topic = match event.type_.as_str() {
            "process.start" | "process.exec" if self.carries == Carries::Processes => PROCESS_START,
            "process.exit" if self.carries == Carries::Processes => PROCESS_EXIT,
            "port.open" if self.carries != Carries::None => PORT_OPEN,
            "port.close" if self.carries != Carries::None => PORT_CLOSE,
            "observer.gap" | THROTTLE if self.carries != Carries::None => GAP,
            _ => return None,
        };
        // A throttle has a rate of its own.
        if event.type_ != THROTTLE && !self.bucket.take(now_ns) {
            self.withhold(1, now_ns);
            return None;
        }
        Some(BusEvent { topic, value: spec::encode(event) })
    }

    /// Counts events that were for the bus and did not get there.
    pub fn withhold(&mut self, events: u64, now_ns: u64) {
        if self.withheld == 0 {
            self.since_ns = now_ns;
        }
        self.withheld += events;
    }

    /// When [`throttled`](Self::throttled) will have something to tell; `None` while nothing is
    /// withheld.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        let due = self
            .told_ns
            .map_or(self.since_ns, |told| told.saturating_add(TELL_NS).max(self.since_ns));
        (self.withheld > 0).then_some(due)
    }

    /// What was withheld since this was last told, once that is due: an event for the event_log, which
    /// comes back to [`take`](Self::take) with a seq.
    pub fn throttled(&mut self, now_ns: u64) -> Option<Body> {
        if self.due_ns()? > now_ns {
            return None;
        }
        let withheld = std::mem::take(&mut self.withheld);
        self.told_ns = Some(now_ns);
        Some(Body::Throttle { withheld, over_ns: now_ns.saturating_sub(self.since_ns) })
    }
}

/// Sends what `bus` chooses of the event_log's events, until the event_log is closed. `monotonic_ns` reads
/// `CLOCK_MONOTONIC`.
///
/// What containerd did not take is counted too, and told with the next event that this looks at.
pub async fn run(
    event_log: &Arc<EventLog>,
    publisher: &Publisher,
    mut bus: Bus,
    monotonic_ns: impl Fn() -> u64,
) {
    let types: Vec<String> = bus.types().iter().map(|name| (*name).to_owned()).collect();
    if types.is_empty() {
        return;
    }
    let filters = vec![Wanted { types, ..Wanted::default() }];
    let asked = Request { filters, internal: true, ..Request::default() };
    // Only a filter or a cursor that is wrong could be refused, and there are none.
    let Ok(mut subscription) = event_log.subscribe(asked) else { return };
    loop {
        let due = bus.due_ns().map(|due| Duration::from_nanos(due.saturating_sub(monotonic_ns())));
        let read = tokio::select! {
            read = subscription.next(READ) => read,
            () = sleep(due) => Some(Batch::default()),
        };
        let Some(batch) = read else { return };
        let now_ns = monotonic_ns();
        let missed: u64 = batch.gaps.iter().filter_map(|gap| gap.lost).sum();
        let refused = match batch.decoded() {
            Ok(events) => {
                events.iter().filter(|event| !send(publisher, &mut bus, event, now_ns)).count()
            }
            Err(_) => batch.count,
        };
        bus.withhold(missed + refused as u64 + publisher.take_unsent(), now_ns);
        if let Some(body) = bus.throttled(now_ns) {
            event_log.publish(&mut vec![of_the_shim(body, now_ns)]);
        }
    }
}

/// Whether the event, if it is for the bus, was not refused for want of room. The news of a refusal
/// is never refused itself: that would be news again.
fn send(publisher: &Publisher, bus: &mut Bus, event: &api::Event, now_ns: u64) -> bool {
    let Some(BusEvent { topic, value }) = bus.take(event, now_ns) else { return true };
    publisher.send_unjournaled(topic, TYPE_URL, value) || event.type_ == THROTTLE
}

/// For ever where there is no time.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

fn of_the_shim(body: Body, monotonic_ns: u64) -> Event {
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
