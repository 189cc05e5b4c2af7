//! What one read of the event log may return, and what it returned.

use containerd_shim_protos::protobuf::{self, Message as _};

use crate::{api, model::Gap};

/// How much of the event log one read may return.
#[derive(Debug, Clone, Copy)]
pub struct ReadBounds {
    /// The most events that one read returns.
    pub events: usize,
    /// The number of bytes of events after which the read ends; the last event may exceed it.
    pub bytes: usize,
}

/// The gaps and events that one read returned. A batch from
/// [`Subscription::next`](super::Subscription::next) is never empty.
#[derive(Debug, Default)]
pub struct Batch {
    /// Gaps of this subscriber alone. They precede the events.
    pub gaps: Vec<Gap>,
    /// Encoded events, oldest first: fields of an `EventBatch`. Each event has the labels of the
    /// filters that it matched. The containers that began since the last batch follow.
    pub events: Vec<u8>,
    /// The number of events in this batch.
    pub count: usize,
    /// Whether the read reached the newest event of that moment.
    pub reached_newest: bool,
}

impl Batch {
    /// Decodes the events, for subscribers inside this process.
    ///
    /// # Errors
    ///
    /// If the bytes are not valid protobuf. This process encoded them, so that would be a bug.
    pub fn decoded(&self) -> protobuf::Result<Vec<api::Event>> {
        Ok(api::EventBatch::parse_from_bytes(&self.events)?.events)
    }
}
