//! What the event_log knows of one who follows: a position in the journal.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    filter::Filters,
    journal::Journal,
    subscription::{Batch, Bounds},
};
use crate::{
    model::{Gap, Stage},
    observe::encode::Encoded,
};

/// How many events one read looks at, so that it holds the lock for some tens of microseconds.
const LOOK_MAX: usize = 4096;

/// From how many events on a batch gets its room at once.
const MANY: u64 = 64;

/// One who follows.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: u64,
    /// Not counted in the limit: one of the shim's own.
    pub(super) internal: bool,
    pub(super) filters: Filters,
    /// The seq of the next event to look at; never less than the journal's first.
    pub(super) position: u64,
    /// To be told before any event: what a cursor asked for and the journal no longer had.
    pub(super) opening: Option<Gap>,
    /// How long `publish` waits for it; `None` where it does not.
    pub(super) block: Option<Block>,
    pub(super) wake: Arc<Notify>,
    pub(super) missed: Missed,
    /// Whether it has read everything and asks for more.
    pub(super) waiting: bool,
    /// The moment of the last event that it looked at, in nanoseconds.
    pub(super) looked_ns: u64,
}

/// What it lost because it was slow, and has not been told.
#[derive(Debug, Default)]
pub(super) struct Missed {
    count: u64,
    from_ns: u64,
    to_ns: u64,
}

/// A stall begins when the journal is full of what this subscriber has not read, and ends when it
/// has read everything.
#[derive(Debug)]
pub(super) struct Block {
    at_most: Duration,
    /// What is left of it in this stall; at 0 its oldest events go.
    left: Duration,
}

impl Block {
    pub(super) fn new(at_most: Duration) -> Self {
        Self { at_most, left: at_most }
    }
}

impl Subscriber {
    /// Whether it has read everything and waits to be woken.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Its waker, for whoever holds the lock to call after it: not again until it has read.
    pub(super) fn rouse(&mut self) -> Arc<Notify> {
        self.waiting = false;
        self.wake.clone()
    }

    /// How long to wait for it before `event`, the oldest, goes.
    pub(super) fn patience(&self, event: &Encoded<'_>) -> Option<Duration> {
        let block = self.block.as_ref().filter(|block| !block.left.is_zero())?;
        (self.position <= event.seq && self.filters.judge(event).is_some()).then_some(block.left)
    }

    /// Takes a wait off its bound, if the wait was for it and it still has not read `event`.
    pub(super) fn was_waited_for(&mut self, event: &Encoded<'_>, elapsed: Duration) {
        if self.patience(event).is_some()
            && let Some(block) = &mut self.block
        {
            block.left = block.left.saturating_sub(elapsed);
        }
    }

    /// The journal has evicted `event`.
    pub(super) fn pass_over(&mut self, event: &Encoded<'_>) {
        if self.position > event.seq {
            return;
        }
        self.position = event.seq + 1;
        if self.filters.admit(event).is_some() {
            if self.missed.count == 0 {
                self.missed.from_ns =
                    if self.looked_ns == 0 { event.monotonic_ns } else { self.looked_ns };
            }
            self.missed.count += 1;
            self.missed.to_ns = event.monotonic_ns;
        }
        self.looked_ns = event.monotonic_ns;
    }

    /// Reads on: its own gaps first, then events within the bounds.
    pub(super) fn read(&mut self, journal: &Journal, bounds: Bounds) -> Batch {
        let mut batch =
            Batch { gaps: self.opening.take().into_iter().collect(), ..Batch::default() };
        batch.gaps.extend(self.take_missed());
        let is_much = journal.newest().saturating_sub(self.position) >= MANY;
        for event in journal.from(self.position).take(LOOK_MAX) {
            if batch.count >= bounds.events || batch.events.len() >= bounds.bytes {
                break;
            }
            self.position = event.seq + 1;
            self.looked_ns = event.monotonic_ns;
            if let Some(matched) = self.filters.admit(&event) {
                if is_much && batch.count == 0 {
                    batch.events.reserve(bounds.bytes.min(journal.bytes()));
                }
                event.write(self.filters.labels(matched), &mut batch.events);
                batch.count += 1;
            }
        }
        batch.is_all = self.position > journal.newest();
        if batch.is_all
            && let Some(block) = &mut self.block
        {
            block.left = block.at_most;
        }
        batch
    }

    fn take_missed(&mut self) -> Option<Gap> {
        let Missed { count, from_ns, to_ns } = std::mem::take(&mut self.missed);
        (count > 0).then_some(Gap { lost: Some(count), stage: Stage::Subscriber, from_ns, to_ns })
    }
}
