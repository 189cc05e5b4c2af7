//! A shim's events as one stream that outlives its connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::{
    batch::{Batch, Batches, Encoded},
    shim::{Shim, ShimError},
};
use crate::{
    api::{Event, Filter, SubscribeRequest},
    clock::realtime_ns,
    registration::Registration,
};

/// How many missed heartbeats make a connection dead.
const MISSED: u32 = 4;
/// The heartbeat of a stream that goes on.
const HEARTBEAT_MS: u32 = 5000;
/// The heartbeat of a stream that is read to its present end: silence tells that it was reached.
const SHORT_HEARTBEAT_MS: u32 = 100;
/// Silence of a shim that should send a heartbeat each 100 ms.
const SHORT_SILENCE: Duration = Duration::from_secs(10);
/// Between two attempts to connect again: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often a shim that has never answered is tried.
const FIRST_ATTEMPTS: u32 = 5;

/// What is wanted of a shim.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// As the Observer service has them; none: all events.
    pub filters: Vec<Filter>,
    /// Where to begin, `EPOCH:SEQ`; empty: at the journal's begin.
    pub since: String,
    /// Whether to go on when the journal has been read.
    pub follow: bool,
}

/// The events of one shim. With `follow` it connects again where a connection breaks, and continues
/// after the last event that it gave: each event comes once, or a gap says what is missing.
pub struct Follow {
    registration: Registration,
    wanted: Wanted,
    stream: Option<Batches>,
    connected: Connected,
    /// `CLOCK_REALTIME` when it was made: without `follow` nothing later is given.
    began_ns: u64,
    /// What came after `EPOCH:SEQ` is still to come.
    cursor: Option<(Vec<u8>, u64)>,
    /// Whose Hello has been given: one is enough for each epoch.
    greeted: Option<Vec<u8>>,
    ended: bool,
}

/// Whether the events of a [`Follow`] arrive; it can be asked while the next ones are waited for.
#[derive(Debug, Clone, Default)]
pub struct Connected(Arc<AtomicBool>);

impl Connected {
    /// The shim has told something, if only that it lives, and the connection has not broken since.
    #[must_use]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is: bool) {
        self.0.store(is, Ordering::Relaxed);
    }
}

/// A step of a stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<E = Vec<Event>> {
    /// Events; at least one.
    Events(E),
    /// The end: the journal was read, or the shim has left after telling everything.
    End,
    /// The end, and the shim did not say so: it was killed, or cannot be reached. What is missing
    /// is not known.
    Broken(Option<ShimError>),
}

/// What one wait for a batch gave.
enum Received {
    Batch(Batch),
    Closed,
    Failed(Option<ShimError>),
}

impl Follow {
    /// Nothing is asked until the first [`next`](Follow::next).
    #[must_use]
    pub fn new(registration: Registration, wanted: Wanted) -> Self {
        let (began_ns, connected) = (realtime_ns(), Connected::default());
        Self {
            registration,
            wanted,
            stream: None,
            connected,
            began_ns,
            cursor: None,
            greeted: None,
            ended: false,
        }
    }

    /// The shim.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Whether events arrive, now and later.
    #[must_use]
    pub fn connected(&self) -> Connected {
        self.connected.clone()
    }

    /// The next events, or the end; after the end only the end.
    pub async fn next(&mut self) -> Step {
        match self.next_batch().await {
            Step::Events(batch) => match batch.iter().map(|event| event.decode()).collect() {
                Ok(events) => Step::Events(events),
                Err(error) => {
                    self.ended = true;
                    let source =
                        ttrpc::Error::Others(format!("an event cannot be decoded: {error}"));
                    Step::Broken(Some(ShimError::Failed {
                        id: self.registration.id.clone(),
                        source,
                    }))
                }
            },
            Step::End => Step::End,
            Step::Broken(error) => Step::Broken(error),
        }
    }

    /// As [`next`](Follow::next), for those who need no more than the head of most events.
    pub async fn next_batch(&mut self) -> Step<Batch> {
        let mut pause = RETRY.0;
        let mut attempts = 0;
        // A stream that was ended in order and that nobody offers again: the shim has left.
        let mut has_left = false;
        loop {
            if self.ended {
                return Step::End;
            }
            let received = match self.receive().await {
                Ok(received) => received,
                Err(error) => Received::Failed(Some(error)),
            };
            self.connected.set(matches!(received, Received::Batch(_)));
            let failure = match received {
                Received::Batch(batch) => match self.take(batch) {
                    Some(batch) if !batch.is_empty() => return Step::Events(batch),
                    Some(_) => continue,
                    None => {
                        self.ended = true;
                        return Step::End;
                    }
                },
                Received::Closed => {
                    has_left = true;
                    None
                }
                Received::Failed(error) => Some(error),
            };
            self.stream = None;
            attempts += 1;
            let is_refused = matches!(&failure, Some(Some(error)) if error.is_refused());
            let was_there = self.greeted.is_some() || attempts < FIRST_ATTEMPTS;
            if self.wanted.follow && was_there && !is_refused && self.registration.is_alive() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
                continue;
            }
            self.ended = true;
            return match failure {
                Some(error) if !has_left => Step::Broken(error),
                _ => Step::End,
            };
        }
    }

    async fn receive(&mut self) -> Result<Received, ShimError> {
        let silence = if self.wanted.follow {
            Duration::from_millis(HEARTBEAT_MS.into()) * MISSED
        } else {
            SHORT_SILENCE
        };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let shim = Shim::connect(self.registration.clone()).await?;
                let receiver = shim.subscribe(&self.request()).await?;
                self.stream.insert(receiver)
            }
        };
        Ok(match timeout(silence, stream.next()).await {
            Ok(Ok(Some(batch))) => Received::Batch(batch),
            Ok(Ok(None)) => Received::Closed,
            Ok(Err(source)) => Received::Failed(Some(ShimError::Failed {
                id: self.registration.id.clone(),
                source,
            })),
            Err(_) => Received::Failed(None),
        })
    }

    fn request(&self) -> SubscribeRequest {
        let since = match &self.cursor {
            Some((epoch, seq)) => format!("{}:{seq}", String::from_utf8_lossy(epoch)),
            None => self.wanted.since.clone(),
        };
        SubscribeRequest {
            filters: self.wanted.filters.clone(),
            backfill: since.is_empty(),
            since,
            heartbeat_ms: if self.wanted.follow { HEARTBEAT_MS } else { SHORT_HEARTBEAT_MS },
            ..Default::default()
        }
    }

    /// What of a batch is to be given; `None` at the end of what was asked for.
    fn take(&mut self, mut batch: Batch) -> Option<Batch> {
        // A heartbeat tells that all there was has been told.
        if !self.wanted.follow && batch.is_empty() {
            return None;
        }
        if !self.goes_on(&batch) {
            batch.retain(|event| self.is_due(event));
        }
        Some(batch)
    }

    /// Whether all of a batch comes after what was given: then its last event says where that ends,
    /// and nobody has to read the others. The shim tells events in their order, so the first and
    /// the last say so for all.
    fn goes_on(&mut self, batch: &Batch) -> bool {
        let Some((epoch, seq)) = self.cursor.as_mut().filter(|_| self.wanted.follow) else {
            return false;
        };
        let (Some(first), Some(last)) = (batch.iter().next(), batch.last()) else { return false };
        // A hello, or a hole of this subscriber's, has no number.
        let goes_on = first.seq > *seq
            && first.epoch == epoch
            && last.seq >= first.seq
            && last.epoch == epoch;
        if goes_on {
            *seq = last.seq;
        }
        goes_on
    }

    /// Whether an event has not been given yet and was asked for.
    fn is_due(&mut self, event: Encoded<'_>) -> bool {
        if event.type_ == b"hello" {
            let is_new = self.greeted.as_deref() != Some(event.epoch);
            self.greeted = Some(event.epoch.to_vec());
            return is_new;
        }
        if event.seq == 0 {
            return true;
        }
        if self.ended || (!self.wanted.follow && event.time_ns > self.began_ns) {
            // A container that never rests brings no heartbeat.
            self.ended = true;
            return false;
        }
        match &mut self.cursor {
            Some((epoch, seq)) if epoch == event.epoch => {
                let is_new = event.seq > *seq;
                *seq = (*seq).max(event.seq);
                is_new
            }
            cursor => {
                *cursor = Some((event.epoch.to_vec(), event.seq));
                true
            }
        }
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { registration, wanted, cursor, ended, .. } = self;
        let mut shown = formatter.debug_struct("Follow");
        shown.field("registration", registration).field("wanted", wanted);
        shown.field("cursor", cursor).field("ended", ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
