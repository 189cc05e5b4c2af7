//! An encoded event, and the fields of it that filters need.

use crate::wire::{Value, Writer, field};

/// An event in the journal, encoded as a batch of one event.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// The position of the event in its shim's event log, from 1, before any filter.
    pub seq: u64,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// The index of the event's type in [`EVENT_TYPES`](crate::model::EVENT_TYPES).
    pub kind: usize,
    /// Field 1 of an `EventBatch`, with its key and length, so that batches can be concatenated.
    pub(in crate::observe) bytes: &'a [u8],
}

/// The fields of a process that filters compare.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProcessFields<'a> {
    /// The origin of the process: `init`, `exec`, `descendant`, `injected` or `unknown`.
    pub origin: &'a [u8],
    /// The id of the exec that the process belongs to; empty if it belongs to none.
    pub exec_id: &'a [u8],
    /// The path of the executable; `None` if it is unknown.
    pub executable: Option<&'a [u8]>,
}

impl<'a> Encoded<'a> {
    /// The id of the container; `None` if the event concerns the whole shim.
    #[must_use]
    pub fn container_id(&self) -> Option<&'a [u8]> {
        self.message(8).map(|container| text(container, 2))
    }

    /// The process of the event; `None` if the event is not about a process.
    #[must_use]
    pub fn process(&self) -> Option<ProcessFields<'a>> {
        let process = self.message(10)?;
        let (origin, exec_id) = (text(process, 6), text(process, 7));
        Some(ProcessFields { origin, exec_id, executable: bytes(process, 8) })
    }

    /// The exit status of the process: 0–255, or 128 + signal; `None` if it is unknown or the event
    /// is not an exit.
    #[must_use]
    pub fn status(&self) -> Option<u64> {
        match field(bytes(self.message(10)?, 20)?, 3)? {
            Value::Number(status) => Some(status),
            Value::Bytes(_) => None,
        }
    }

    /// Appends the event to a batch, with the labels of the filters that it matched.
    pub fn write<'l>(&self, labels: impl Iterator<Item = &'l str>, batch: &mut Vec<u8>) {
        let mut labels = labels.peekable();
        // Almost no filter has a label, and without labels the event is one copy.
        if labels.peek().is_none() {
            return batch.extend_from_slice(self.bytes);
        }
        Writer::new(batch).message(1, |writer| {
            writer.fields(bytes(self.bytes, 1).unwrap_or_default());
            labels.for_each(|label| writer.optional_bytes(9, Some(label)));
        });
    }

    fn message(&self, number: u32) -> Option<&'a [u8]> {
        bytes(bytes(self.bytes, 1)?, number)
    }
}

fn bytes(message: &[u8], number: u32) -> Option<&[u8]> {
    match field(message, number)? {
        Value::Bytes(bytes) => Some(bytes),
        Value::Number(_) => None,
    }
}

/// A string field. An absent field is empty, as in protobuf's encoding.
fn text(message: &[u8], number: u32) -> &[u8] {
    bytes(message, number).unwrap_or_default()
}
