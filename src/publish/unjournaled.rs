//! Events that may be dropped: what the watch tells on containerd's bus.
//!
//! They have a queue and a connection of their own, so that a task event never waits behind one.
//! Each is tried twice at most. What finds no room is refused, what finds no containerd is counted,
//! for whoever told it to tell.

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

/// How many may wait; the next is refused.
const WAITING_MAX: usize = 256;

/// How many bytes they may have together; what would go beyond is refused.
const BYTES_MAX: usize = 512 << 10;

/// The events that wait to be tried.
#[derive(Debug, Default)]
pub(super) struct Unjournaled {
    waiting: Mutex<Waiting>,
    filled: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    envelopes: VecDeque<Envelope>,
    bytes: usize,
}

impl Unjournaled {
    /// Puts one into the queue. False: there is no room.
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
        // Always with an event: containerd 1.6 crashes on an envelope without one.
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

    /// How many were tried and did not get there since this was last asked.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Tries each, for ever.
    pub(super) async fn run(&self, mut connection: Connection) {
        loop {
            let Some(envelope) = self.take() else {
                self.filled.notified().await;
                continue;
            };
            let mut forwarded = connection.forward(&envelope).await;
            if matches!(forwarded, Forwarded::Unreachable) {
                // containerd was restarted since the last one, perhaps: this one makes a connection
                // anew.
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
