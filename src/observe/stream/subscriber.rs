//! The state that the event log keeps for each subscriber: a position in the journal.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    batch::{Batch, ReadBounds},
    filter::Filters,
    journal::Journal,
};
use crate::{
    model::{Gap, Stage},
    observe::encode::{Encoded, write_batch_container},
};

/// How many events one read examines at most, so that it holds the lock for some tens of
/// microseconds only.
const EXAMINED_MAX: usize = 4096;

/// If at least this many events are unread, the memory of a batch is reserved at once.
const RESERVE_FROM_UNREAD: u64 = 64;

/// One subscriber, as the event log knows it.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: u64,
    /// Whether this is one of the shim's own subscribers, which do not count towards the limit.
    pub(super) internal: bool,
    pub(super) filters: Filters,
    /// The sequence number of the next event to examine; never below the journal's first.
    pub(super) position: u64,
    /// The gap to deliver before any event: requested events that the journal no longer has.
    pub(super) opening_gap: Option<Gap>,
    /// How long `append` may wait for this subscriber; `None` if it may not wait.
    pub(super) block: Option<BlockingTime>,
    pub(super) waker: Arc<Notify>,
    pub(super) missed: MissedEvents,
    /// Whether the subscriber has read everything and asks for more.
    pub(super) waiting: bool,
    /// The time of the last event that the subscriber examined or missed: `CLOCK_MONOTONIC`, in
    /// nanoseconds; 0 before the first.
    pub(super) examined_ns: u64,
    /// The serial of the last container of which the stream has the constants.
    pub(super) containers: u64,
}

/// Events that were evicted before this subscriber had read them, not yet delivered as a gap.
#[derive(Debug, Default)]
pub(super) struct MissedEvents {
    count: u64,
    from_ns: u64,
    to_ns: u64,
}

/// The time for which `append` may wait in one stall. A stall begins when the journal is full of
/// events that this subscriber has not read, and ends when it has read everything.
#[derive(Debug)]
pub(super) struct BlockingTime {
    at_most: Duration,
    /// The remaining time in this stall. Once it is 0, unread events are evicted.
    left: Duration,
}

impl BlockingTime {
    pub(super) fn new(at_most: Duration) -> Self {
        Self { at_most, left: at_most }
    }
}

impl Subscriber {
    /// Whether the subscriber has read everything and waits to be woken.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Returns the subscriber's waker, which the caller notifies after it has released the lock.
    /// The subscriber counts as not waiting until it has read again, so one read costs one wake at
    /// most.
    pub(super) fn take_waker(&mut self) -> Arc<Notify> {
        self.waiting = false;
        self.waker.clone()
    }

    /// How long to wait for this subscriber before `event`, the oldest, is evicted; `None` if the
    /// subscriber does not need the event or its time is used up.
    pub(super) fn allowed_wait(&self, event: &Encoded<'_>) -> Option<Duration> {
        let block = self.block.as_ref().filter(|block| !block.left.is_zero())?;
        (self.position <= event.seq && self.filters.matching(event).is_some()).then_some(block.left)
    }

    /// Subtracts a wait from the subscriber's time, if the subscriber still has not read `event`,
    /// the oldest.
    pub(super) fn charge_wait(&mut self, event: &Encoded<'_>, elapsed: Duration) {
        if self.allowed_wait(event).is_some()
            && let Some(block) = &mut self.block
        {
            block.left = block.left.saturating_sub(elapsed);
        }
    }

    /// Moves the subscriber's position past `event`, which is being evicted. Counts the event as
    /// missed if it was unread and matches the filters.
    pub(super) fn skip_evicted(&mut self, event: &Encoded<'_>) {
        if self.position > event.seq {
            return;
        }
        self.position = event.seq + 1;
        // `admit` also counts limits and cooldowns, so that the same events match whether they are
        // read or missed.
        if self.filters.admit(event).is_some() {
            if self.missed.count == 0 {
                self.missed.from_ns =
                    if self.examined_ns == 0 { event.monotonic_ns } else { self.examined_ns };
            }
            self.missed.count += 1;
            self.missed.to_ns = event.monotonic_ns;
        }
        self.examined_ns = event.monotonic_ns;
    }

    /// Reads from the subscriber's position on: first its own gaps, then matching events within the
    /// bounds.
    pub(super) fn read(&mut self, journal: &Journal, bounds: ReadBounds) -> Batch {
        let mut batch =
            Batch { gaps: self.opening_gap.take().into_iter().collect(), ..Batch::default() };
        // Both gaps lie before every event that is still in the journal.
        batch.gaps.extend(self.take_missed());
        let reserves = journal.newest_seq().saturating_sub(self.position) >= RESERVE_FROM_UNREAD;
        for event in journal.from(self.position).take(EXAMINED_MAX) {
            if batch.count >= bounds.events || batch.events.len() >= bounds.bytes {
                break;
            }
            self.position = event.seq + 1;
            self.examined_ns = event.monotonic_ns;
            if let Some(matched) = self.filters.admit(&event) {
                // Memory is reserved only at the first match: a filter that matches nothing needs
                // none.
                if reserves && batch.count == 0 {
                    batch.events.reserve(bounds.bytes.min(journal.bytes()));
                }
                event.write(self.filters.labels(matched), &mut batch.events);
                batch.count += 1;
            }
        }
        if batch.count > 0 && journal.containers().newest() > self.containers {
            let new = journal.containers().after(self.containers, 0);
            new.for_each(|container| write_batch_container(container, &mut batch.events));
            self.containers = journal.containers().newest();
        }
        batch.reached_newest = self.position > journal.newest_seq();
        // The stall ends only here. If each read restored the time, a subscriber that reads one
        // event at a time could hold up the observer thread for ever.
        if batch.reached_newest
            && let Some(block) = &mut self.block
        {
            block.left = block.at_most;
        }
        batch
    }

    fn take_missed(&mut self) -> Option<Gap> {
        let MissedEvents { count, from_ns, to_ns } = std::mem::take(&mut self.missed);
        (count > 0).then_some(Gap { lost: Some(count), stage: Stage::Subscriber, from_ns, to_ns })
    }
}
