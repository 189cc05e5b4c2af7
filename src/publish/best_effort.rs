//! Events that may be dropped: the observer's events for containerd's event bus.
//!
//! They have a queue and a connection of their own, so that a task event never waits for them. Each
//! event is sent twice at most. The queue refuses an event if it is full, and counts the events
//! that containerd has not acknowledged. The caller reports both kinds of loss.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use containerd_shim_protos::{
    protobuf::{MessageField, well_known_types::any::Any},
    shim::event::Envelope,
};
use tokio::sync::Notify;

use super::{
    connection::{Connection, Forwarded},
    event::timestamp,
};

/// The most events in the queue. Further events are refused.
const WAITING_MAX: usize = 256;

/// The largest size in bytes of all events in the queue. An event that would exceed it is refused.
const BYTES_MAX: usize = 512 << 10;

/// The queue of events that may be dropped.
#[derive(Debug, Default)]
pub(super) struct BestEffort {
    waiting: Mutex<Waiting>,
    filled: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    envelopes: VecDeque<Envelope>,
    bytes: usize,
}

impl BestEffort {
    /// Puts an event into the queue. Returns false if the queue is full.
    pub(super) fn offer(
        &self,
        namespace: &str,
        topic: &str,
        type_url: &str,
        value: Vec<u8>,
    ) -> bool {
        let mut waiting = self.lock();
        if waiting.envelopes.len() >= WAITING_MAX || waiting.bytes + value.len() > BYTES_MAX {
            return false;
        }
        waiting.bytes += value.len();
        // An envelope always contains an event: containerd 1.6 crashes on an envelope without one.
        let event = Any { type_url: type_url.to_owned(), value, ..Default::default() };
        waiting.envelopes.push_back(Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: namespace.to_owned(),
            topic: topic.to_owned(),
            event: MessageField::some(event),
            ..Default::default()
        });
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// The number of events that were sent without success, since the last call of this function.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Sends the events in the order in which they were queued. Never returns.
    pub(super) async fn run(&self, mut connection: Connection) {
        loop {
            let Some(envelope) = self.take() else {
                self.filled.notified().await;
                continue;
            };
            let mut forwarded = connection.forward(&envelope).await;
            if matches!(forwarded, Forwarded::Unreachable) {
                // containerd may have been restarted since the last event. The second attempt opens
                // a new connection.
                forwarded = connection.forward(&envelope).await;
            }
            match forwarded {
                Forwarded::Acknowledged => {}
                Forwarded::Refused(_) | Forwarded::Unreachable => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn take(&self) -> Option<Envelope> {
        let mut waiting = self.lock();
        let envelope = waiting.envelopes.pop_front()?;
        waiting.bytes -= envelope.event.value.len();
        Some(envelope)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
