//! A batch of events as it came: whoever forwards, stores or chooses needs no more than the head of
//! each.

use std::ops::Range;

use containerd_shim_protos::protobuf::{self, Message as _};
use ttrpc::r#async::{Client, StreamInner};

use crate::{
    api::Event,
    wire::{Value, next_field},
};

/// Events in the encoding of `proto/lookout/v1/observer.proto`, each decoded when it is asked for.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each of them is.
    events: Vec<Range<usize>>,
}

/// Not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an EventBatch of {length} bytes is broken {left} bytes before its end")]
pub struct Broken {
    length: usize,
    left: usize,
}

/// One event of a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// As Event has it: 0 for a hello and for a subscriber's own gap.
    pub seq: u64,
    /// `CLOCK_REALTIME`, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The shim's run.
    pub epoch: &'a [u8],
    /// Its type, such as `process.start`.
    pub type_: &'a [u8],
    /// The whole, an `Event` message.
    pub bytes: &'a [u8],
}

impl Encoded<'_> {
    /// All that it says.
    ///
    /// # Errors
    ///
    /// What is wrong with its encoding.
    pub fn decode(&self) -> protobuf::Result<Event> {
        Event::parse_from_bytes(self.bytes)
    }
}

impl<'a> Encoded<'a> {
    /// Fields 1 to 4 of an Event, as `proto/lookout/v1/observer.proto` has them. What is absent is
    /// empty.
    fn of(event: &'a [u8]) -> Self {
        let mut head = Self { seq: 0, time_ns: 0, epoch: &[], type_: &[], bytes: event };
        let (mut rest, mut wanted) = (event, 4);
        while wanted > 0 {
            match next_field(&mut rest) {
                Some((1, Value::Number(seq))) => head.seq = seq,
                Some((2, Value::Bytes(epoch))) => head.epoch = epoch,
                Some((3, Value::Bytes(type_))) => head.type_ = type_,
                Some((4, Value::Number(time_ns))) => head.time_ns = time_ns,
                Some(_) => continue,
                None => break,
            }
            wanted -= 1;
        }
        head
    }
}

impl Batch {
    /// Finds the events in an EventBatch message: its field 1.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, Broken> {
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((number, value)) = next_field(&mut rest) {
            if let (1, Value::Bytes(event)) = (number, value) {
                let end = bytes.len() - rest.len();
                events.push(end - event.len()..end);
            }
        }
        if !rest.is_empty() {
            return Err(Broken { length: bytes.len(), left: rest.len() });
        }
        Ok(Self { bytes, events })
    }

    /// Whether it has no event: a heartbeat.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Encoded<'_>> {
        self.events.iter().map(|event| Encoded::of(&self.bytes[event.clone()]))
    }

    /// The newest.
    pub(super) fn last(&self) -> Option<Encoded<'_>> {
        self.events.last().map(|event| Encoded::of(&self.bytes[event.clone()]))
    }

    /// Keeps what `is_wanted`.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(Encoded<'_>) -> bool) {
        self.events.retain(|event| is_wanted(Encoded::of(&self.bytes[event.clone()])));
    }
}

/// A subscription's answers.
pub struct Batches {
    stream: StreamInner,
    /// The connection ends with it.
    _client: Client,
}

impl Batches {
    pub(super) fn new(stream: StreamInner, client: Client) -> Self {
        Self { stream, _client: client }
    }

    /// The next batch; `None` when the shim ended the stream.
    ///
    /// # Errors
    ///
    /// The status with which the shim ended it, a broken connection, or a batch that is none.
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

impl std::fmt::Debug for Batches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Batches").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
