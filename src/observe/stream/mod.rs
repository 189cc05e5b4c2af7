//! The event_log: gives each event its seq, keeps the newest in a journal, wakes those who follow.
//!
//! ```text
//!  observer's thread                                   the async thread
//!  publish(batch) ──► seq ──► [ journal, oldest … newest ] ◄── next() ── a subscription
//!                                  ▲ evicted here             position, filters, missed
//! ```
//!
//! A subscriber is a position in the journal and has no queue of its own: following costs memory
//! once, however many follow. What the journal evicts before a subscriber has read it is counted
//! for that subscriber alone and told to it alone.
//!
//! Called by the observer's thread ([`EventLog::publish`]) and by the async thread (all else). An event
//! is encoded once, by the thread that gives it, however many follow. No clock is read but to bound
//! a wait, and a lock that a panic poisoned is used on: an event more or less in it does no harm.

mod cursor;
mod filter;
mod journal;
mod publish;
mod subscriber;
mod subscription;

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

pub use cursor::{Cursor, Malformed};
pub use filter::{FILTERS_MAX, Invalid, Wanted};
pub use subscription::{Batch, Bounds, Refused, Request, Since, Subscription};

use journal::Journal;
use subscriber::Subscriber;

use super::encode::{Clock, Encoder, Identity};

/// How many may follow one shim at once; the next is refused. The shim's own do not count.
pub const SUBSCRIBERS_MAX: usize = 64;

/// How long [`EventLog::drained`] waits at most, whatever it is asked for.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What the event_log may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many bytes the journal may hold. The oldest event goes when there is no room; the newest
    /// always stays.
    pub journal_bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct EventLog {
    identity: Identity,
    clock: Clock,
    /// Held for one batch of events, or for one read of bounded length.
    state: Mutex<State>,
    /// A subscriber for whom `publish` waits has read, or has gone.
    room: Condvar,
    /// A subscriber has read everything, or has gone.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    /// At most [`SUBSCRIBERS_MAX`] and the shim's own.
    subscribers: Vec<Subscriber>,
    next_id: u64,
    closed: bool,
}

impl EventLog {
    /// An empty event_log, whose first event will have seq 1. `clock` tells when processes began.
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
            room: Condvar::new(),
            settled: Notify::new(),
        }
    }

    /// Who tells.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Makes the messages of this shim.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(&self.identity, self.clock)
    }

    /// The newest seq; 0 before the first event.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.lock().journal.newest()
    }

    /// How many follow, the shim's own included.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.lock().subscribers.len()
    }

    /// Says that nothing more comes: subscribers read what there is, then their streams end. Who
    /// comes later gets what it asks of the journal and its end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wake: Vec<_> = state.subscribers.iter_mut().map(Subscriber::rouse).collect();
        drop(state);
        self.room.notify_all();
        wake.iter().for_each(|wake| wake.notify_one());
    }

    /// Resolves when every subscriber has gone, or has taken everything that there is and asks for
    /// more. Waits for `within` at most, and never longer than a second.
    pub async fn drained(&self, within: Duration) {
        let drained = async {
            loop {
                // Made before the look, so that what happens between the two is not missed.
                let settled = self.settled.notified();
                if self.lock().subscribers.iter().all(Subscriber::is_waiting) {
                    return;
                }
                settled.await;
            }
        };
        // Whoever has not read by then is given up.
        let _ = tokio::time::timeout(within.min(DRAIN_MAX), drained).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
