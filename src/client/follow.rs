//! A shim's events as one stream that outlives its connections.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;
use ttrpc::r#async::ClientStreamReceiver;

use super::shim::{Shim, ShimError};
use crate::{
    api::{Event, EventBatch, Filter, SubscribeRequest, event::Body},
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

/// The events of one shim. With `follow` it connects again where a connection breaks, and continues after the last
/// event that it gave: each event comes once, or a gap says what is missing.
pub struct Follow {
    registration: Registration,
    wanted: Wanted,
    stream: Option<ClientStreamReceiver<EventBatch>>,
    /// `CLOCK_REALTIME` when it was made: without `follow` nothing later is given.
    began_ns: u64,
    /// What came after `EPOCH:SEQ` is still to come.
    cursor: Option<(String, u64)>,
    /// Whether a Hello has been given: one is enough for each epoch.
    greeted: Option<String>,
    ended: bool,
}

/// A step of a stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Events; at least one.
    Events(Vec<Event>),
    /// The end: the journal was read, or the shim has left after telling everything.
    End,
    /// The end, and the shim did not say so: it was killed, or cannot be reached. What is missing is not known.
    Broken(Option<ShimError>),
}

/// What one wait for a batch gave.
enum Received {
    Batch(EventBatch),
    Closed,
    Failed(Option<ShimError>),
}

impl Follow {
    /// Nothing is asked until the first [`next`](Follow::next).
    #[must_use]
    pub fn new(registration: Registration, wanted: Wanted) -> Self {
        Self { registration, wanted, stream: None, began_ns: now_ns(), cursor: None, greeted: None, ended: false }
    }

    /// The shim.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The next events, or the end; after the end only the end.
    pub async fn next(&mut self) -> Step {
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
            let failure = match received {
                Received::Batch(batch) => match self.take(batch) {
                    Some(events) if !events.is_empty() => return Step::Events(events),
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
        let silence =
            if self.wanted.follow { Duration::from_millis(HEARTBEAT_MS.into()) * MISSED } else { SHORT_SILENCE };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let shim = Shim::connect(self.registration.clone()).await?;
                let receiver = shim.subscribe(&self.request()).await?;
                self.stream.insert(receiver)
            }
        };
        Ok(match timeout(silence, stream.recv()).await {
            Ok(Ok(Some(batch))) => Received::Batch(batch),
            Ok(Ok(None)) => Received::Closed,
            Ok(Err(source)) => Received::Failed(Some(ShimError::Failed { id: self.registration.id.clone(), source })),
            Err(_) => Received::Failed(None),
        })
    }

    fn request(&self) -> SubscribeRequest {
        let since = match &self.cursor {
            Some((epoch, seq)) => format!("{epoch}:{seq}"),
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
    fn take(&mut self, batch: EventBatch) -> Option<Vec<Event>> {
        // A heartbeat tells that all there was has been told.
        if !self.wanted.follow && batch.events.is_empty() {
            return None;
        }
        let mut events = Vec::with_capacity(batch.events.len());
        for event in batch.events {
            if matches!(event.body, Some(Body::Hello(_))) {
                if self.greeted.as_ref() != Some(&event.epoch) {
                    self.greeted = Some(event.epoch.clone());
                    events.push(event);
                }
                continue;
            }
            if event.seq > 0 {
                if !self.wanted.follow && event.time_ns > self.began_ns {
                    // A container that never rests brings no heartbeat.
                    self.ended = true;
                    break;
                }
                let is_told = |(epoch, seq): &(String, u64)| *epoch == event.epoch && event.seq <= *seq;
                if self.cursor.as_ref().is_some_and(is_told) {
                    continue;
                }
                self.cursor = Some((event.epoch.clone(), event.seq));
            }
            events.push(event);
        }
        Some(events)
    }
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { registration, wanted, cursor, ended, .. } = self;
        let mut shown = formatter.debug_struct("Follow");
        shown.field("registration", registration).field("wanted", wanted);
        shown.field("cursor", cursor).field("ended", ended).finish_non_exhaustive()
    }
}
