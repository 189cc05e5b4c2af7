//! The writing side: numbers a batch, makes room, wakes.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{EventLog, State, subscriber::Subscriber};
use crate::model::Event;

impl EventLog {
    /// Gives the events their seqs, in order, and leaves `events` empty.
    ///
    /// Returns at once, but where the journal is full of what a subscriber with the policy to block
    /// has not read: then it waits for that one within the subscriber's own bound, while readers go
    /// on. On a thread that runs async tasks it never waits, because the readers are there.
    pub fn publish(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.lock();
        let mut kinds = 0;
        for event in events.drain(..) {
            kinds |= 1 << event.body.kind();
            state.journal.append(&event, self.encoder());
            while state.journal.is_over() {
                state = self.make_room(state, &mut kinds);
            }
        }
        let wake = state.interested(kinds);
        drop(state);
        wake.iter().for_each(|wake| wake.notify_one());
    }

    /// Evicts the oldest event, or waits a while for one who still has to read it. Ask again after
    /// it.
    fn make_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        kinds: &mut u16,
    ) -> MutexGuard<'a, State> {
        let Some(patience) = state.patience().filter(|_| may_wait()) else {
            state.evict();
            return state;
        };
        // Who is waited for must know that there is something to read.
        state.interested(std::mem::take(kinds)).iter().for_each(|wake| wake.notify_one());
        let begun = Instant::now();
        let woken = self.room.wait_timeout(state, patience);
        let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        state.waited(begun.elapsed());
        state
    }
}

/// Whether this thread may block: not where the readers run.
fn may_wait() -> bool {
    tokio::runtime::Handle::try_current().is_err()
}

impl State {
    /// Wakers of those who wait and may want something of these kinds. Each is told once until it
    /// has read.
    fn interested(&mut self, kinds: u16) -> Vec<Arc<Notify>> {
        let wanting = |subscriber: &&mut Subscriber| {
            subscriber.is_waiting() && subscriber.filters.kinds() & kinds != 0
        };
        self.subscribers.iter_mut().filter(wanting).map(Subscriber::rouse).collect()
    }

    /// How long to wait before the oldest event may go: `None` to let it go now.
    fn patience(&self) -> Option<Duration> {
        let oldest = self.journal.oldest()?;
        self.subscribers.iter().filter_map(|subscriber| subscriber.patience(&oldest)).min()
    }

    /// Charges a wait to those for whom it was, and who still have not read.
    fn waited(&mut self, elapsed: Duration) {
        let Some(oldest) = self.journal.oldest() else { return };
        self.subscribers
            .iter_mut()
            .for_each(|subscriber| subscriber.was_waited_for(&oldest, elapsed));
    }

    fn evict(&mut self) {
        if let Some(oldest) = self.journal.oldest() {
            self.subscribers.iter_mut().for_each(|subscriber| subscriber.pass_over(&oldest));
        }
        self.journal.evict();
    }
}
