//! An event as bytes, and what can be asked of it.

use crate::wire::{Value, Writer, field};

/// An event as the journal has it: a batch with this one event.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// Counts the records of one shim, before any filter, from 1.
    pub seq: u64,
    /// `CLOCK_MONOTONIC` of the event, in nanoseconds.
    pub monotonic_ns: u64,
    /// The index of its type in [`EVENT_TYPES`](crate::model::EVENT_TYPES).
    pub kind: usize,
    /// Field 1 of an `EventBatch`, whole.
    pub(in crate::observe) bytes: &'a [u8],
}

/// What a filter asks of a process.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// `init`, `exec`, `descendant` or `injected`.
    pub origin: &'a [u8],
    /// Empty: of none.
    pub exec_id: &'a [u8],
    /// Its path; `None` where it is not known.
    pub executable: Option<&'a [u8]>,
}

impl<'a> Encoded<'a> {
    /// The container's id; `None` for what concerns the whole shim.
    #[must_use]
    pub fn container_id(&self) -> Option<&'a [u8]> {
        self.message(8).map(|container| text(container, 2))
    }

    /// The process that it is about; `None` where it is about none.
    #[must_use]
    pub fn process(&self) -> Option<About<'a>> {
        let process = self.message(10)?;
        let (origin, exec_id) = (text(process, 6), text(process, 7));
        Some(About { origin, exec_id, executable: bytes(process, 8) })
    }

    /// How its process ended: 0–255 or 128 + signal; `None` where nobody knows.
    #[must_use]
    pub fn status(&self) -> Option<u64> {
        match field(bytes(self.message(10)?, 20)?, 3)? {
            Value::Number(status) => Some(status),
            Value::Bytes(_) => None,
        }
    }

    /// Appends it to a batch, with the labels of the filters that it matched.
    pub fn write<'l>(&self, labels: impl Iterator<Item = &'l str>, batch: &mut Vec<u8>) {
        let mut labels = labels.peekable();
        if labels.peek().is_none() {
            return batch.extend_from_slice(self.bytes);
        }
        Writer::new(batch).message(1, |writer| {
            writer.fields(bytes(self.bytes, 1).unwrap_or_default());
            labels.for_each(|label| writer.some_bytes(9, Some(label)));
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

/// Absent is empty.
fn text(message: &[u8], number: u32) -> &[u8] {
    bytes(message, number).unwrap_or_default()
}
