//! A batch of events, kept in its wire encoding.
//!
//! A reader that forwards, stores or filters events needs only the first four fields of each event.
//! So [`Batch`] finds the boundaries of the events and decodes an event only on request.

use std::ops::Range;

use containerd_shim_protos::protobuf::{self, Message as _};
use ttrpc::r#async::{Client, StreamInner};

use crate::{
    api::{
        Container, Event,
        field_numbers::{event, event_batch},
    },
    wire::{Value, next_field},
};

/// A batch of events as a shim has sent it, encoded as in `proto/lookout/v1/observer.proto`. An
/// event is decoded on request.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The byte range of each event in `bytes`, in the order of the batch.
    events: Vec<Range<usize>>,
    /// The containers that the batch introduces, with what their events leave out.
    containers: Vec<Container>,
}

/// What a shim has sent as a batch is not a valid `EventBatch` message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed EventBatch: the last {left} of {length} bytes cannot be decoded")]
pub struct MalformedBatch {
    length: usize,
    left: usize,
}

/// One event of a [`Batch`]: its first fields, and its encoded bytes.
#[derive(Debug, Clone, Copy)]
pub struct EncodedEvent<'a> {
    /// The sequence number in the shim's event log, from 1; 0 for a hello and for a gap that only
    /// this subscriber has.
    pub seq: u64,
    /// The time of the event: `CLOCK_REALTIME`, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The epoch in which `seq` was assigned.
    pub epoch: &'a [u8],
    /// The event type, such as `process.start`.
    pub type_: &'a [u8],
    /// The complete event, an encoded `Event` message.
    pub bytes: &'a [u8],
}

impl EncodedEvent<'_> {
    /// Decodes the complete event.
    ///
    /// # Errors
    ///
    /// An error of protobuf if the bytes are not a valid `Event` message.
    pub fn decode(&self) -> protobuf::Result<Event> {
        Event::parse_from_bytes(self.bytes)
    }
}

impl<'a> EncodedEvent<'a> {
    /// Reads the first four fields of an encoded `Event`. An absent field is 0 or empty.
    fn read_head(event: &'a [u8]) -> Self {
        let mut head = Self { seq: 0, time_ns: 0, epoch: &[], type_: &[], bytes: event };
        // The shim writes fields in ascending order, so the loop ends after the fourth field and
        // never walks over the body. An event with fields in another order is still read correctly.
        let (mut rest, mut wanted) = (event, 4);
        while wanted > 0 {
            match next_field(&mut rest) {
                Some((event::SEQ, Value::Number(seq))) => head.seq = seq,
                Some((event::EPOCH, Value::Bytes(epoch))) => head.epoch = epoch,
                Some((event::TYPE, Value::Bytes(type_))) => head.type_ = type_,
                Some((event::TIME_NS, Value::Number(time_ns))) => head.time_ns = time_ns,
                Some(_) => continue,
                None => break,
            }
            wanted -= 1;
        }
        head
    }
}

impl Batch {
    /// Finds the events in an `EventBatch` message.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, MalformedBatch> {
        let (mut events, mut containers) = (Vec::new(), Vec::new());
        let mut rest = bytes.as_slice();
        while let Some((number, value)) = next_field(&mut rest) {
            match (number, value) {
                (event_batch::EVENTS, Value::Bytes(event)) => {
                    // `next_field` has advanced `rest` past the field, so the event ends where
                    // `rest` begins.
                    let end = bytes.len() - rest.len();
                    events.push(end - event.len()..end);
                }
                (event_batch::CONTAINERS, Value::Bytes(container)) => {
                    // Without its names, a container is still known by the ids in its events.
                    containers.extend(Container::parse_from_bytes(container));
                }
                _ => {}
            }
        }
        if !rest.is_empty() {
            return Err(MalformedBatch { length: bytes.len(), left: rest.len() });
        }
        Ok(Self { bytes, events, containers })
    }

    /// The containers that the batch introduces. Returns them once.
    pub(super) fn take_containers(&mut self) -> Vec<Container> {
        std::mem::take(&mut self.containers)
    }

    /// Whether the batch has no events. The shim sends such a batch as a heartbeat.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events of the batch, in its order.
    pub fn iter(&self) -> impl Iterator<Item = EncodedEvent<'_>> {
        self.events.iter().map(|event| EncodedEvent::read_head(&self.bytes[event.clone()]))
    }

    /// The newest event of the batch; `None` if the batch is empty.
    pub(super) fn last(&self) -> Option<EncodedEvent<'_>> {
        self.events.last().map(|event| EncodedEvent::read_head(&self.bytes[event.clone()]))
    }

    /// Removes from the batch the events for which `is_wanted` returns false.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(EncodedEvent<'_>) -> bool) {
        self.events.retain(|event| is_wanted(EncodedEvent::read_head(&self.bytes[event.clone()])));
    }
}

/// The stream of batches that answers one `Subscribe` request.
pub struct BatchStream {
    stream: StreamInner,
    /// Keeps the connection open, which closes when its last client is dropped.
    _client: Client,
}

impl BatchStream {
    pub(super) fn new(stream: StreamInner, client: Client) -> Self {
        Self { stream, _client: client }
    }

    /// Receives the next batch; `None` when the shim has ended the stream.
    ///
    /// # Errors
    ///
    /// The status with which the shim ended the stream, a broken connection, or a malformed batch.
    pub async fn next(&mut self) -> ttrpc::Result<Option<Batch>> {
        match self.stream.recv().await {
            Ok(bytes) => {
                Batch::new(bytes).map(Some).map_err(|error| ttrpc::Error::Others(error.to_string()))
            }
            Err(ttrpc::Error::Eof) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for BatchStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BatchStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
