//! The event log: numbers each event, keeps the newest events in a journal, and wakes subscribers.
//!
//! ```text
//!  observer thread                                     async thread
//!  append(batch) ───► seq ──► [ journal, oldest … newest ] ◄── next() ── a subscription
//!                                  ▲ evicts the oldest        position, filters, missed events
//! ```
//!
//! A subscriber is a position in the journal and has no queue of its own, so the memory for events
//! does not grow with the number of subscribers. If the journal evicts an event before a subscriber
//! has read it, the event is counted as lost for that subscriber, and only that subscriber receives
//! the gap.
//!
//! The observer thread calls [`EventLog::append`]; the async thread calls everything else. Each
//! event is encoded once, by the thread that appends it. The clock is read only to bound a wait. A
//! lock that a panic poisoned stays in use, because an event that is missing or counted twice does
//! no harm.

mod append;
mod batch;
mod containers;
mod cursor;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod journal;

mod subscriber;
mod subscription;

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

pub use batch::{Batch, ReadBounds};
pub use cursor::{Cursor, MalformedCursor};
pub use filter::{FILTERS_MAX, FilterSpec, InvalidFilter};
pub use subscription::{Since, SubscribeError, Subscription, SubscriptionRequest};

use journal::Journal;
use subscriber::Subscriber;

use super::encode::{Clock, Encoder, Identity};

/// How many subscribers one shim serves at once; more are refused. The shim's own subscribers do
/// not count.
pub const SUBSCRIBERS_MAX: usize = 64;

/// The longest time that [`EventLog::drained`] waits, even if the caller allows more.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// The memory limits of an event log.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many bytes the journal may hold. It evicts the oldest events beyond that, but always
    /// keeps the newest event.
    pub journal_bytes: usize,
}

/// The ordered, bounded list of one shim's events, from which every subscriber reads. See the
/// [module](self).
#[derive(Debug)]
pub struct EventLog {
    identity: Identity,
    clock: Clock,
    /// Locked for one batch of events, or for one read of bounded length.
    state: Mutex<State>,
    /// Signals that a blocking subscriber has read, that a subscriber was dropped, or that the log
    /// was closed. `append` waits for it if the journal is full.
    reader_moved: Condvar,
    /// Signals that a subscriber has read everything, or was dropped.
    reader_caught_up: Notify,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    /// At most [`SUBSCRIBERS_MAX`], and the shim's own subscribers.
    subscribers: Vec<Subscriber>,
    next_id: u64,
    closed: bool,
}

impl EventLog {
    /// Creates an empty event log. Its first event gets the sequence number 1. `clock` converts the
    /// start times of processes to wall-clock time.
    #[must_use]
    pub fn new(limits: Limits, identity: Identity, clock: Clock) -> Self {
        let journal = Journal::new(limits.journal_bytes);
        Self {
            identity,
            clock,
            state: Mutex::new(State {
                journal,
                subscribers: Vec::new(),
                next_id: 0,
                closed: false,
            }),
            reader_moved: Condvar::new(),
            reader_caught_up: Notify::new(),
        }
    }

    /// The shim and the epoch that the events belong to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// An encoder for messages of this shim.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(&self.identity, self.clock)
    }

    /// The sequence number of the newest event; 0 before the first event.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.lock().journal.newest_seq()
    }

    /// The number of subscribers, including the shim's own.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.lock().subscribers.len()
    }

    /// Ends the log: no event will follow. Subscribers read the remaining events, and then their
    /// streams end. Later subscribers get what they request from the journal, and then the end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers: Vec<_> = state.subscribers.iter_mut().map(Subscriber::take_waker).collect();
        drop(state);
        self.reader_moved.notify_all();
        wakers.iter().for_each(|waker| waker.notify_one());
    }

    /// Waits until every subscriber was dropped or has read everything and asks for more. Waits at
    /// most for `within`, and never longer than one second.
    pub async fn drained(&self, within: Duration) {
        let drained = async {
            loop {
                // Created before the check: `notify_waiters` wakes only waiters that exist, so a
                // subscriber that catches up between the check and the wait would be missed.
                let caught_up = self.reader_caught_up.notified();
                if self.lock().subscribers.iter().all(Subscriber::is_waiting) {
                    return;
                }
                caught_up.await;
            }
        };
        // Subscribers that have not read everything by then lose the remaining events: a shutdown
        // must not depend on them.
        let _ = tokio::time::timeout(within.min(DRAIN_MAX), drained).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
