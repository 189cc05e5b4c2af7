//! The events of one shim, as one stream that continues across reconnects.
//!
//! [`EventFollower`] subscribes to the shim's Observer service. With `follow` it reconnects after a
//! broken connection and continues at its cursor, so each event is delivered once, or a gap reports
//! what is missing. Without `follow` it reads the journal up to its end at that moment and stops.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use containerd_shim_protos::protobuf;
use tokio::time::timeout;

use super::{
    batch::{Batch, BatchStream, EncodedEvent},
    shim::{Shim, ShimError},
};
use crate::{
    api::{Container, Event, Filter, SubscribeRequest, event::Body},
    clock::realtime_ns,
    registration::Registration,
};

/// The number of missed heartbeats after which a connection to a shim counts as dead.
const MISSED_HEARTBEATS_MAX: u32 = 4;
/// The heartbeat interval, in milliseconds, of a stream with `follow`.
const HEARTBEAT_MS: u32 = 5000;
/// The heartbeat interval, in milliseconds, of a stream without `follow`. The first heartbeat marks
/// the end of the journal, so this interval is the delay of every command that only reads the
/// journal.
const JOURNAL_HEARTBEAT_MS: u32 = 100;
/// How long a shim that should send a heartbeat each 100 ms may send nothing. This is far longer
/// than [`MISSED_HEARTBEATS_MAX`] times the interval.
const JOURNAL_SILENCE_MAX: Duration = Duration::from_secs(10);
/// The first and the longest pause before reconnecting to a shim. The pause doubles with each
/// attempt.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How many times to try to connect to a shim that has never answered.
const CONNECT_ATTEMPTS_MAX: u32 = 5;

/// Which events of a shim an [`EventFollower`] delivers, and whether it waits for new ones.
#[derive(Debug, Clone, Default)]
pub struct FollowOptions {
    /// The filters of the subscription; an event is delivered if one of them matches. Without
    /// filters, all events are delivered.
    pub filters: Vec<Filter>,
    /// The cursor after which to start, `EPOCH:SEQ`. If it is empty, the stream starts at the
    /// beginning of the journal.
    pub since: String,
    /// With an empty cursor: start with the next event instead of the beginning of the journal.
    pub from_now: bool,
    /// Whether to continue with new events when the journal has been read.
    pub follow: bool,
}

/// The events of one shim, as one stream that continues across reconnects.
pub struct EventFollower {
    registration: Registration,
    wanted: FollowOptions,
    stream: Option<BatchStream>,
    connected: ConnectionState,
    /// `CLOCK_REALTIME` when this value was created. Without `follow`, later events are not
    /// delivered.
    started_ns: u64,
    /// The epoch and the sequence number of the last delivered event; `None` before the first
    /// event.
    cursor: Option<(Vec<u8>, u64)>,
    /// The epoch of the last delivered hello. The shim sends a hello on each connection; only the
    /// first of each epoch is delivered.
    hello_epoch: Option<Vec<u8>>,
    /// What the configurations of the stream's containers say about them, by id. The shim sends it
    /// once, and not with each event.
    described: HashMap<String, Container>,
    ended: bool,
}

/// Whether an [`EventFollower`] currently receives events. A clone can be read while `next` is
/// pending.
#[derive(Debug, Clone, Default)]
pub struct ConnectionState(Arc<AtomicBool>);

impl ConnectionState {
    /// Whether the shim has sent something, at least a heartbeat, since the connection was made,
    /// and the connection has not broken since.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set_connected(&self, is_connected: bool) {
        self.0.store(is_connected, Ordering::Relaxed);
    }
}

/// The result of waiting for the next events of an [`EventFollower`].
#[derive(Debug)]
#[non_exhaustive]
pub enum FollowStep<E = Vec<Event>> {
    /// New events of the shim, at least one.
    Events(E),
    /// The stream is complete: the journal has been read, or the shim has delivered all its events
    /// and has exited.
    End,
    /// The stream ended early: the shim was killed or is unreachable, and events may be missing.
    /// There is no error if the shim only stopped sending.
    Broken(Option<ShimError>),
}

/// The result of waiting once for a batch from a shim.
enum ReceiveResult {
    Batch(Batch),
    /// The shim ended the stream without an error.
    Closed,
    /// The connection failed; `None` if no heartbeat came in time.
    Failed(Option<ShimError>),
}

impl EventFollower {
    /// Prepares to follow a shim. The connection is made at the first
    /// [`next`](EventFollower::next).
    #[must_use]
    pub fn new(registration: Registration, wanted: FollowOptions) -> Self {
        let (started_ns, connected) = (realtime_ns(), ConnectionState::default());
        Self {
            registration,
            wanted,
            stream: None,
            connected,
            started_ns,
            cursor: None,
            hello_epoch: None,
            described: HashMap::new(),
            ended: false,
        }
    }

    /// The registration of the shim that is followed.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The cursor of the last event that was delivered, or from which on the shim delivers events:
    /// `EPOCH:SEQ`. `None` before the shim has answered.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        let (epoch, seq) = self.cursor.as_ref()?;
        Some(format!("{}:{seq}", String::from_utf8_lossy(epoch)))
    }

    /// A handle that shows, now and later, whether the shim is connected.
    #[must_use]
    pub fn connection_state(&self) -> ConnectionState {
        self.connected.clone()
    }

    /// Waits for the next events. After [`FollowStep::End`] or [`FollowStep::Broken`], returns
    /// [`FollowStep::End`].
    pub async fn next(&mut self) -> FollowStep {
        match self.next_batch().await {
            FollowStep::Events(batch) => match self.decode(&batch) {
                Ok(events) => FollowStep::Events(events),
                Err(error) => {
                    self.ended = true;
                    let source =
                        ttrpc::Error::Others(format!("failed to decode an event: {error}"));
                    FollowStep::Broken(Some(ShimError::Failed {
                        id: self.registration.id.clone(),
                        source,
                    }))
                }
            },
            FollowStep::End => FollowStep::End,
            FollowStep::Broken(error) => FollowStep::Broken(error),
        }
    }

    /// Decodes the events of a batch, and adds the descriptions of their containers to them.
    fn decode(&mut self, batch: &Batch) -> protobuf::Result<Vec<Event>> {
        let complete = |event: EncodedEvent<'_>| {
            let mut event = event.decode()?;
            if let Some(container) = event.container.as_mut()
                && !container.is_described()
                && let Some(described) = self.described.get(&container.id)
            {
                container.describe(described);
            }
            if let Some(Body::ContainerClose(_)) = event.body {
                self.described.remove(&event.container.get_or_default().id);
            }
            Ok(event)
        };
        batch.iter().map(complete).collect()
    }

    fn note_descriptions(&mut self, containers: Vec<Container>) {
        self.described.extend(containers.into_iter().map(|one| (one.id.clone(), one)));
    }

    /// As [`next`](EventFollower::next), but leaves the events encoded, for readers that need only
    /// the first fields of most events, and does not add the descriptions of the containers.
    pub async fn next_batch(&mut self) -> FollowStep<Batch> {
        let mut pause = RECONNECT_PAUSES.0;
        let mut attempts = 0;
        // Whether the shim has ended a stream without an error. If the shim cannot be reached after
        // that, it has exited after delivering all events, and the failed reconnect is no loss.
        let mut was_closed = false;
        loop {
            if self.ended {
                return FollowStep::End;
            }
            let received = match self.receive_batch().await {
                Ok(received) => received,
                Err(error) => ReceiveResult::Failed(Some(error)),
            };
            self.connected.set_connected(matches!(received, ReceiveResult::Batch(_)));
            let failure = match received {
                ReceiveResult::Batch(batch) => match self.without_delivered(batch) {
                    Some(batch) if !batch.is_empty() => return FollowStep::Events(batch),
                    Some(_) => continue,
                    None => {
                        self.ended = true;
                        return FollowStep::End;
                    }
                },
                ReceiveResult::Closed => {
                    was_closed = true;
                    None
                }
                ReceiveResult::Failed(error) => Some(error),
            };
            self.stream = None;
            attempts += 1;
            let is_refused = matches!(&failure, Some(Some(error)) if error.is_refused());
            let may_retry = self.hello_epoch.is_some() || attempts < CONNECT_ATTEMPTS_MAX;
            // A refused request is not repeated: it would be refused again.
            if self.wanted.follow && may_retry && !is_refused && self.registration.is_alive() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_PAUSES.1);
                continue;
            }
            self.ended = true;
            return match failure {
                Some(error) if !was_closed => FollowStep::Broken(error),
                _ => FollowStep::End,
            };
        }
    }

    /// Waits for one batch from the shim; connects first if there is no connection.
    async fn receive_batch(&mut self) -> Result<ReceiveResult, ShimError> {
        let silence = if self.wanted.follow {
            Duration::from_millis(HEARTBEAT_MS.into()) * MISSED_HEARTBEATS_MAX
        } else {
            JOURNAL_SILENCE_MAX
        };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let shim = Shim::connect(self.registration.clone()).await?;
                let receiver = shim.subscribe(&self.subscribe_request()).await?;
                self.stream.insert(receiver)
            }
        };
        Ok(match timeout(silence, stream.next()).await {
            Ok(Ok(Some(batch))) => ReceiveResult::Batch(batch),
            Ok(Ok(None)) => ReceiveResult::Closed,
            Ok(Err(source)) => ReceiveResult::Failed(Some(ShimError::Failed {
                id: self.registration.id.clone(),
                source,
            })),
            Err(_) => ReceiveResult::Failed(None),
        })
    }

    /// The subscription that continues after the last delivered event.
    fn subscribe_request(&self) -> SubscribeRequest {
        let since = match &self.cursor {
            Some((epoch, seq)) => format!("{}:{seq}", String::from_utf8_lossy(epoch)),
            None => self.wanted.since.clone(),
        };
        let is_from_now = self.wanted.from_now && self.cursor.is_none();
        SubscribeRequest {
            filters: self.wanted.filters.clone(),
            backfill: since.is_empty() && !is_from_now,
            since,
            heartbeat_ms: if self.wanted.follow { HEARTBEAT_MS } else { JOURNAL_HEARTBEAT_MS },
            ..Default::default()
        }
    }

    /// Removes from a batch the events that were already delivered. `None` at the end of a stream
    /// without `follow`.
    fn without_delivered(&mut self, mut batch: Batch) -> Option<Batch> {
        // The shim sends a heartbeat only when the subscriber has received everything.
        if !self.wanted.follow && batch.is_empty() {
            return None;
        }
        self.note_descriptions(batch.take_containers());
        if !self.advance_past(&batch) {
            batch.retain(|event| self.is_undelivered(event));
        }
        Some(batch)
    }

    /// The fast path of [`without_delivered`](Self::without_delivered): moves the cursor to the end
    /// of a batch, if all events are after the cursor. Otherwise returns false and changes nothing.
    ///
    /// Only the first and the last event of the batch are read: the shim sends the events of an
    /// epoch in the order of their sequence numbers.
    fn advance_past(&mut self, batch: &Batch) -> bool {
        let Some((epoch, seq)) = self.cursor.as_mut().filter(|_| self.wanted.follow) else {
            return false;
        };
        let (Some(first), Some(last)) = (batch.iter().next(), batch.last()) else { return false };
        // A hello, and a gap that only this subscriber has, have seq 0. For them the first
        // comparison is false, so they take the slow path.
        let is_after = first.seq > *seq
            && first.epoch == epoch
            && last.seq >= first.seq
            && last.epoch == epoch;
        if is_after {
            *seq = last.seq;
        }
        is_after
    }

    /// Whether an event has not been delivered yet and belongs to the requested range. Moves the
    /// cursor.
    fn is_undelivered(&mut self, event: EncodedEvent<'_>) -> bool {
        if event.type_ == b"hello" {
            let is_new = self.hello_epoch.as_deref() != Some(event.epoch);
            self.hello_epoch = Some(event.epoch.to_vec());
            if let Ok(Event { body: Some(Body::Hello(hello)), .. }) = event.decode() {
                self.note_descriptions(hello.containers);
                // If the connection breaks before the first event, no event in between is missed.
                if self.cursor.is_none() {
                    self.cursor = Some((event.epoch.to_vec(), hello.seq));
                }
            }
            return is_new;
        }
        if event.seq == 0 {
            return true;
        }
        if self.ended || (!self.wanted.follow && event.time_ns > self.started_ns) {
            // A shim that always has new events never sends a heartbeat. Without the bound by time,
            // a command without `-f` would not end.
            self.ended = true;
            return false;
        }
        match &mut self.cursor {
            Some((epoch, seq)) if epoch == event.epoch => {
                let is_new = event.seq > *seq;
                *seq = (*seq).max(event.seq);
                is_new
            }
            // This is the first event, or the first one of a restarted shim, which counts from 1
            // again.
            cursor => {
                *cursor = Some((event.epoch.to_vec(), event.seq));
                true
            }
        }
    }
}

impl std::fmt::Debug for EventFollower {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { registration, wanted, cursor, ended, .. } = self;
        let mut shown = formatter.debug_struct("EventFollower");
        shown.field("registration", registration).field("wanted", wanted);
        shown.field("cursor", cursor).field("ended", ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
