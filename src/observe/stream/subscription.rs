//! The reading side of the event log: subscribing, and waiting for the next batch.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    Batch, Cursor, EventLog, ReadBounds, SUBSCRIBERS_MAX,
    filter::{FilterSpec, Filters, InvalidFilter},
    subscriber::{BlockingTime, MissedEvents, Subscriber},
};
use crate::model::{Container, Gap, Stage};

/// A request for a subscription: which events, from where on, and what happens if the subscriber is
/// slow.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionRequest {
    /// An event passes if one of the filters matches. Without filters every event passes.
    pub filters: Vec<FilterSpec>,
    /// The first event to deliver.
    pub since: Since,
    /// How long the shim may wait for this subscriber when the journal is full and its oldest event
    /// has not been read by the subscriber. `None`: the shim does not wait, and the subscriber
    /// loses its oldest events.
    pub block: Option<Duration>,
    /// Whether this is one of the shim's own subscribers, which do not count towards
    /// [`SUBSCRIBERS_MAX`].
    pub internal: bool,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Since {
    /// The subscription begins with the next event that is added to the journal.
    #[default]
    Now,
    /// The subscription begins with the first event of the shim. Events that the journal no longer
    /// has become a gap.
    Oldest,
    /// The subscription begins with the event after this cursor. Events that the journal no longer
    /// has become a gap.
    After(Cursor),
}

/// Why a subscription is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// A filter of the request is invalid.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// The cursor has the current epoch, but a sequence number that no event has had yet.
    #[error("cursor {cursor} is ahead of the newest event, {newest}")]
    Ahead {
        /// The cursor of the request.
        cursor: Cursor,
        /// The sequence number of the newest event.
        newest: u64,
    },
    /// [`SUBSCRIBERS_MAX`] subscribers exist already.
    #[error("the shim already serves {SUBSCRIBERS_MAX} subscribers, which is the limit")]
    TooMany,
}

/// A subscriber's handle to the event log. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    event_log: Arc<EventLog>,
    id: u64,
    waker: Arc<Notify>,
    begins_after: u64,
    containers: Vec<Arc<Container>>,
}

impl EventLog {
    /// Adds a subscriber.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] if a filter is invalid, the cursor is ahead of the newest event, or there
    /// are too many subscribers.
    pub fn subscribe(
        self: &Arc<Self>,
        request: SubscriptionRequest,
    ) -> Result<Subscription, SubscribeError> {
        let SubscriptionRequest { filters: wanted, since, block, internal } = request;
        // The filters are compiled before the lock is taken, because a client decides how long this
        // takes.
        let filters = Filters::compile(&wanted)?;
        let mut state = self.lock();
        if !internal
            && state.subscribers.iter().filter(|other| !other.internal).count() >= SUBSCRIBERS_MAX
        {
            return Err(SubscribeError::TooMany);
        }
        let (newest, first) = (state.journal.newest_seq(), state.journal.first_seq());
        let (position, lost) = match since {
            Since::Now => (newest + 1, None),
            // Sequence numbers begin with 1.
            Since::Oldest => (first, (first > 1).then(|| Some(first - 1))),
            // Sequence numbers start again with each epoch, so the number of events that were lost
            // between the two epochs is unknown.
            Since::After(cursor) if cursor.epoch != self.identity.epoch => (first, Some(None)),
            Since::After(cursor) if cursor.seq > newest => {
                return Err(SubscribeError::Ahead { cursor, newest });
            }
            Since::After(Cursor { seq, .. }) => {
                let next = seq + 1;
                (next.max(first), (next < first).then(|| Some(first - next)))
            }
        };
        let to_ns = state.journal.from(position).next().map_or(0, |event| event.monotonic_ns);
        // `from_ns` is unknown: the event at the cursor, which had the time, may be evicted.
        let opening_gap = lost.map(|lost| Gap { lost, stage: Stage::Journal, from_ns: 0, to_ns });
        let begun = state.journal.containers();
        let containers = begun.after(0, position).cloned().collect();
        let newest_container = begun.newest();
        let id = state.next_id;
        state.next_id += 1;
        let waker = Arc::new(Notify::new());
        state.subscribers.push(Subscriber {
            id,
            internal,
            filters,
            position,
            opening_gap,
            block: block.map(BlockingTime::new),
            waker: waker.clone(),
            missed: MissedEvents::default(),
            waiting: false,
            examined_ns: 0,
            containers: newest_container,
        });
        drop(state);
        let begins_after = position - 1;
        Ok(Subscription { event_log: self.clone(), id, waker, begins_after, containers })
    }
}

/// The result of one read of the journal.
enum ReadResult {
    Batch(Batch),
    /// No event matched, and unread events remain.
    Continue,
    /// Everything is read. More events may follow.
    Wait,
    /// Everything is read, and the log is closed.
    End,
}

impl Subscription {
    /// The sequence number before the first event of this subscription; 0 if it begins with the
    /// first event of the log.
    #[must_use]
    pub fn begins_after(&self) -> u64 {
        self.begins_after
    }

    /// The containers of the coming events, as far as they are known at the beginning. Returns them
    /// once.
    pub fn take_containers(&mut self) -> Vec<Arc<Container>> {
        std::mem::take(&mut self.containers)
    }

    /// Waits for the next events. `None`: the event log is closed and everything was read.
    ///
    /// Cancel safe: a batch is returned as soon as it was read, so dropping the future loses no
    /// event.
    pub async fn next(&mut self, bounds: ReadBounds) -> Option<Batch> {
        loop {
            match self.read_once(bounds) {
                ReadResult::Batch(batch) => return Some(batch),
                // A filter that matches little must not keep other tasks from running.
                ReadResult::Continue => tokio::task::yield_now().await,
                ReadResult::Wait => self.waker.notified().await,
                ReadResult::End => return None,
            }
        }
    }

    fn read_once(&mut self, bounds: ReadBounds) -> ReadResult {
        let mut state = self.event_log.lock();
        let state = &mut *state;
        // Only the drop of this handle removes the subscriber, so it is always found.
        let Some(subscriber) = state.subscribers.iter_mut().find(|other| other.id == self.id)
        else {
            return ReadResult::End;
        };
        let batch = subscriber.read(&state.journal, bounds);
        // `append` waits only for blocking subscribers, so a read by another subscriber must not
        // wake it.
        if subscriber.block.is_some() {
            self.event_log.reader_moved.notify_all();
        }
        if !batch.gaps.is_empty() || batch.count > 0 {
            subscriber.waiting = false;
            return ReadResult::Batch(batch);
        }
        if !batch.reached_newest {
            return ReadResult::Continue;
        }
        if state.closed {
            return ReadResult::End;
        }
        // Set under the lock that `append` takes. A wake between here and `notified()` is not lost,
        // because `notify_one` stores a permit.
        subscriber.waiting = true;
        self.event_log.reader_caught_up.notify_waiters();
        ReadResult::Wait
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.event_log.lock().subscribers.retain(|subscriber| subscriber.id != self.id);
        self.event_log.reader_moved.notify_all();
        self.event_log.reader_caught_up.notify_waiters();
    }
}
