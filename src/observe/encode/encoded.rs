//! An encoded event, and the fields of it that filters need.

use crate::{
    api::field_numbers::{container, ended, event, event_batch, process},
    wire::{Value, Writer, field},
};

/// An event in the journal, encoded as a batch of one event.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// The position of the event in its shim's event log, from 1, before any filter.
    pub seq: u64,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// The index of the event's type in [`EVENT_TYPES`](crate::model::EVENT_TYPES).
    pub kind: usize,
    /// Field `events` of an `EventBatch`, with its key and length, so that batches can be
    /// concatenated.
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
        self.message(event::CONTAINER).map(|container| text(container, container::ID))
    }

    /// The process of the event; `None` if the event is not about a process.
    #[must_use]
    pub fn process(&self) -> Option<ProcessFields<'a>> {
        let process = self.message(event::PROCESS)?;
        let (origin, exec_id) = (text(process, process::ORIGIN), text(process, process::EXEC_ID));
        Some(ProcessFields { origin, exec_id, executable: bytes(process, process::EXECUTABLE) })
    }

    /// The exit status of the process: 0–255, or 128 + signal; `None` if it is unknown or the event
    /// is not an exit.
    #[must_use]
    pub fn status(&self) -> Option<u64> {
        match field(bytes(self.message(event::PROCESS)?, process::ENDED)?, ended::STATUS)? {
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
        Writer::new(batch).message(event_batch::EVENTS, |writer| {
            writer.fields(bytes(self.bytes, event_batch::EVENTS).unwrap_or_default());
            labels.for_each(|label| writer.optional_bytes(event::LABELS, Some(label)));
        });
    }

    fn message(&self, number: u32) -> Option<&'a [u8]> {
        bytes(bytes(self.bytes, event_batch::EVENTS)?, number)
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
