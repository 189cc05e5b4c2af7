//! The reading side.

use std::{sync::Arc, time::Duration};

use containerd_shim_protos::protobuf::{self, Message as _};
use tokio::sync::Notify;

use super::{
    Cursor, EventLog, SUBSCRIBERS_MAX,
    filter::{Filters, Invalid, Wanted},
    subscriber::{Block, Missed, Subscriber},
};
use crate::{
    api,
    model::{Gap, Stage},
};

/// What a subscriber asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// An event passes where one matches; none: all pass.
    pub filters: Vec<Wanted>,
    /// Where to begin.
    pub since: Since,
    /// How long the shim may wait for it while it has not read what is about to be evicted, in one
    /// stall. `None`: not at all, its oldest events go.
    pub block: Option<Duration>,
    /// One of the shim's own: not counted in [`SUBSCRIBERS_MAX`].
    pub internal: bool,
}

/// Where a subscriber begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Since {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest that the journal has.
    Oldest,
    /// After this one. What the journal no longer has is told as a gap.
    After(Cursor),
}

/// Why nobody can follow like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A filter means nothing.
    #[error(transparent)]
    Filter(#[from] Invalid),
    /// Nothing like it was ever given.
    #[error("cursor {cursor} is ahead of the newest event, {newest}")]
    Ahead {
        /// What was asked for.
        cursor: Cursor,
        /// What there is.
        newest: u64,
    },
    /// All places are taken.
    #[error("there are {SUBSCRIBERS_MAX} subscribers, and no more are served")]
    TooMany,
}

/// How much one read may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events.
    pub events: usize,
    /// Bytes; the last event may go beyond.
    pub bytes: usize,
}

/// What was read at once. Never empty.
#[derive(Debug, Default)]
pub struct Batch {
    /// Holes before the events, of this subscriber only.
    pub gaps: Vec<Gap>,
    /// Events, oldest first, each with the labels of the filters that it matched: field 1 of an
    /// `EventBatch`.
    pub events: Vec<u8>,
    /// How many.
    pub count: usize,
    /// Whether there was nothing more at that moment.
    pub is_all: bool,
}

impl Batch {
    /// The events as messages, for who is in this process.
    ///
    /// # Errors
    ///
    /// Where the bytes are none: they were written here, so that would be a mistake of ours.
    pub fn decoded(&self) -> protobuf::Result<Vec<api::Event>> {
        Ok(api::EventBatch::parse_from_bytes(&self.events)?.events)
    }
}

/// One who follows. Dropping it ends that.
#[derive(Debug)]
pub struct Subscription {
    event_log: Arc<EventLog>,
    id: u64,
    wake: Arc<Notify>,
    begins_after: u64,
}

impl EventLog {
    /// Begins to follow.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn subscribe(self: &Arc<Self>, request: Request) -> Result<Subscription, Refused> {
        let Request { filters: wanted, since, block, internal } = request;
        let filters = Filters::compile(&wanted)?;
        let mut state = self.lock();
        if !internal
            && state.subscribers.iter().filter(|other| !other.internal).count() >= SUBSCRIBERS_MAX
        {
            return Err(Refused::TooMany);
        }
        let (newest, first) = (state.journal.newest(), state.journal.first());
        let (position, lost) = match since {
            Since::Now => (newest + 1, None),
            Since::Oldest => (first, None),
            Since::After(cursor) if cursor.epoch != self.identity.epoch => (first, Some(None)),
            Since::After(cursor) if cursor.seq > newest => {
                return Err(Refused::Ahead { cursor, newest });
            }
            Since::After(Cursor { seq, .. }) => {
                let next = seq + 1;
                (next.max(first), (next < first).then(|| Some(first - next)))
            }
        };
        // Nobody knows any more when the hole began.
        let to_ns = state.journal.from(position).next().map_or(0, |event| event.monotonic_ns);
        let opening = lost.map(|lost| Gap { lost, stage: Stage::Journal, from_ns: 0, to_ns });
        let id = state.next_id;
        state.next_id += 1;
        let wake = Arc::new(Notify::new());
        state.subscribers.push(Subscriber {
            id,
            internal,
            filters,
            position,
            opening,
            block: block.map(Block::new),
            wake: wake.clone(),
            missed: Missed::default(),
            waiting: false,
            looked_ns: 0,
        });
        drop(state);
        Ok(Subscription { event_log: self.clone(), id, wake, begins_after: position - 1 })
    }
}

/// What one look at the journal gave.
enum Turn {
    Read(Batch),
    /// Nothing yet, but not all was looked at.
    GoOn,
    Wait,
    End,
}

impl Subscription {
    /// The newest seq that was given before this subscription's first event.
    #[must_use]
    pub fn begins_after(&self) -> u64 {
        self.begins_after
    }

    /// What comes next, once there is something. `None`: the event_log is closed and all has been read.
    /// What was read is with the caller: dropping the future loses nothing.
    pub async fn next(&mut self, bounds: Bounds) -> Option<Batch> {
        loop {
            match self.turn(bounds) {
                Turn::Read(batch) => return Some(batch),
                Turn::GoOn => tokio::task::yield_now().await,
                Turn::Wait => self.wake.notified().await,
                Turn::End => return None,
            }
        }
    }

    fn turn(&mut self, bounds: Bounds) -> Turn {
        let mut state = self.event_log.lock();
        let state = &mut *state;
        // There as long as this handle is.
        let Some(subscriber) = state.subscribers.iter_mut().find(|other| other.id == self.id)
        else {
            return Turn::End;
        };
        let batch = subscriber.read(&state.journal, bounds);
        if subscriber.block.is_some() {
            self.event_log.room.notify_all();
        }
        if !batch.gaps.is_empty() || batch.count > 0 {
            subscriber.waiting = false;
            return Turn::Read(batch);
        }
        if !batch.is_all {
            return Turn::GoOn;
        }
        if state.closed {
            return Turn::End;
        }
        subscriber.waiting = true;
        self.event_log.settled.notify_waiters();
        Turn::Wait
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.event_log.lock().subscribers.retain(|subscriber| subscriber.id != self.id);
        self.event_log.room.notify_all();
        self.event_log.settled.notify_waiters();
    }
}
