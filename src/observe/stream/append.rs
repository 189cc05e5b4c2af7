//! The writing side of the event log: numbers a batch of events, frees space in the journal, wakes
//! subscribers.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{EventLog, State, subscriber::Subscriber};
use crate::model::Event;

impl EventLog {
    /// Appends the events in order, each with its sequence number, and leaves `events` empty.
    ///
    /// Returns at once, except if the journal is full and a blocking subscriber has not read the
    /// oldest event. Then it waits for that subscriber, for at most the subscriber's own limit;
    /// other subscribers can read meanwhile. On a thread that runs async tasks it never waits,
    /// because the subscribers run there too.
    pub fn append(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.lock();
        let mut kinds = 0;
        for event in events.drain(..) {
            kinds |= 1 << event.body.type_index();
            state.journal.append(&event, self.encoder());
            while state.journal.is_over_limit() {
                state = self.evict_or_wait(state, &mut kinds);
            }
        }
        let wakers = state.take_wakers(kinds);
        // Subscribers are woken after the lock is released, because they take the lock at once.
        drop(state);
        wakers.iter().for_each(|waker| waker.notify_one());
    }

    /// Evicts the oldest event, or waits for a subscriber that still has to read it. The journal
    /// may be over its limit afterwards, so the caller checks again. `kinds` are the event types
    /// for which subscribers were not woken yet.
    fn evict_or_wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        kinds: &mut u32,
    ) -> MutexGuard<'a, State> {
        let Some(timeout) = state.wait_before_evict().filter(|_| may_block()) else {
            state.evict();
            return state;
        };
        // Subscribers are woken before the wait: the one that is waited for may be asleep, and only
        // its read frees space.
        state.take_wakers(std::mem::take(kinds)).iter().for_each(|waker| waker.notify_one());
        let begun = Instant::now();
        let woken = self.reader_moved.wait_timeout(state, timeout);
        let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        state.charge_wait(begun.elapsed());
        state
    }
}

/// Whether this thread may block. A thread inside a tokio runtime may not: the subscribers run
/// there, so a wait for them would be a deadlock until the timeout.
fn may_block() -> bool {
    tokio::runtime::Handle::try_current().is_err()
}

impl State {
    /// The wakers of waiting subscribers with filters that can match one of these types. Each waker
    /// is returned once until its subscriber has read.
    fn take_wakers(&mut self, kinds: u32) -> Vec<Arc<Notify>> {
        let is_waiting_for = |subscriber: &&mut Subscriber| {
            subscriber.is_waiting() && subscriber.filters.kinds() & kinds != 0
        };
        self.subscribers.iter_mut().filter(is_waiting_for).map(Subscriber::take_waker).collect()
    }

    /// How long to wait before the oldest event is evicted; `None` to evict it now.
    fn wait_before_evict(&self) -> Option<Duration> {
        let oldest = self.journal.oldest_event()?;
        // The shortest wait is used, so that no subscriber's own limit is exceeded.
        self.subscribers.iter().filter_map(|subscriber| subscriber.allowed_wait(&oldest)).min()
    }

    /// Charges a wait to the subscribers that caused it and still have not read.
    fn charge_wait(&mut self, elapsed: Duration) {
        let Some(oldest) = self.journal.oldest_event() else { return };
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.charge_wait(&oldest, elapsed));
    }

    fn evict(&mut self) {
        if let Some(oldest) = self.journal.oldest_event() {
            self.subscribers.iter_mut().for_each(|subscriber| subscriber.skip_evicted(&oldest));
        }
        self.journal.evict();
    }
}
