//! The newest events of one shim, encoded as subscribers receive them, within a bounded memory.
//!
//! ```text
//!  index      [ 7 exec ][ 8 exit ][ 9 done ][ 10 fork ] …    time, type and position of each
//!                  │         └──────┐
//!  segments   [ …… 7 …… 8 …… ][ 9 … 10 …           ]         32 KiB, or more for a large event
//! ```
//!
//! The journal keeps bytes and not [`Event`]s. An event holds several allocations. To free them one
//! by one, long after they have left the CPU caches, took two fifths of the observer thread's time
//! in a storm (see `docs/design/0004-events-as-bytes.md`).

use std::{collections::VecDeque, mem::size_of};

use super::containers::Containers;
use crate::{
    model::{EVENT_TYPES, Event},
    observe::encode::{ContainerFields, Encoded, Encoder},
};

/// The capacity of a segment, in bytes. Small enough that the allocator serves it from its heap and
/// not with an mmap for each segment, and at most half of the smallest journal.
const SEGMENT_BYTES: usize = 32 << 10;

/// The length at which a segment counts as full. Most events fit into the remaining bytes; a longer
/// event makes its segment larger.
const SEGMENT_FULL_BYTES: usize = SEGMENT_BYTES - (2 << 10);

/// A queue of events with consecutive sequence numbers, oldest first.
#[derive(Debug)]
pub(super) struct Journal {
    index: VecDeque<IndexEntry>,
    containers: Containers,
    /// The encoded fields of the container of the last event, for the next event.
    container_fields: ContainerFields,
    segments: VecDeque<Vec<u8>>,
    /// The number of segments that were removed, which is the number of the oldest segment.
    first_segment: u64,
    /// A removed segment, which is kept so that the next segment needs no new memory.
    spare: Vec<u8>,
    /// The sequence number of the next event.
    next_seq: u64,
    bytes: usize,
    bytes_max: usize,
}

/// The time and the type of an event, and the position of its bytes.
#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    monotonic_ns: u64,
    segment: u64,
    begin: usize,
    end: usize,
    kind: usize,
}

impl IndexEntry {
    /// The bytes that the event counts towards the limit of the journal: its encoding and its index
    /// entry.
    fn charged_bytes(&self) -> usize {
        size_of::<Self>() + self.end - self.begin
    }
}

impl Journal {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            index: VecDeque::new(),
            containers: Containers::default(),
            container_fields: ContainerFields::default(),
            segments: VecDeque::new(),
            first_segment: 0,
            spare: Vec::new(),
            next_seq: 1,
            bytes: 0,
            bytes_max,
        }
    }

    /// The sequence number of the newest event, evicted or not; 0 before the first event.
    pub(super) fn newest_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// The sequence number of the oldest event in the journal, or of the next event if the journal
    /// is empty.
    pub(super) fn first_seq(&self) -> u64 {
        self.next_seq - self.index.len() as u64
    }

    /// The oldest event in the journal; `None` if it is empty.
    pub(super) fn oldest_event(&self) -> Option<Encoded<'_>> {
        self.index.front().map(|entry| self.encoded_event(self.first_seq(), entry))
    }

    /// The events with this sequence number or a later one, oldest first.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = Encoded<'_>> {
        let first = self.first_seq();
        let skip =
            usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX).min(self.index.len());
        let seqs = first + skip as u64..;
        seqs.zip(self.index.range(skip..)).map(|(seq, entry)| self.encoded_event(seq, entry))
    }

    fn encoded_event(&self, seq: u64, entry: &IndexEntry) -> Encoded<'_> {
        let IndexEntry { monotonic_ns, segment, begin, end, kind } = *entry;
        // Segments are numbered without reuse, so that `evict` need not renumber the index.
        let segment = usize::try_from(segment - self.first_segment).unwrap_or(usize::MAX);
        Encoded { seq, monotonic_ns, kind, bytes: &self.segments[segment][begin..end] }
    }

    /// Encodes an event with the next sequence number and appends it. The journal may be over its
    /// limit afterwards, see [`is_over_limit`](Self::is_over_limit).
    pub(super) fn append(&mut self, event: &Event, encoder: Encoder<'_>) {
        if self.segments.back().is_none_or(|last| last.len() >= SEGMENT_FULL_BYTES) {
            self.segments.push_back(std::mem::take(&mut self.spare));
        }
        let segment = self.first_segment + self.segments.len() as u64 - 1;
        // There is a segment: one was pushed above if there was none.
        let Some(last) = self.segments.back_mut() else { return };
        let begin = last.len();
        encoder.event(self.next_seq, event, &mut self.container_fields, last);
        // A large event made the vector grow by doubling, and `charged_bytes` does not count the
        // unused half.
        if last.len() > SEGMENT_BYTES {
            last.shrink_to_fit();
        }
        self.bytes += self.containers.note(event, self.next_seq);
        let (monotonic_ns, kind) = (event.monotonic_ns, event.body.type_index());
        let entry = IndexEntry { monotonic_ns, segment, begin, end: last.len(), kind };
        self.next_seq += 1;
        self.bytes += entry.charged_bytes();
        if self.index.len() == self.index.capacity() {
            // `VecDeque` would double its capacity, up to twice of what the journal can ever hold.
            self.index.reserve_exact((self.index.len() / 4).max(32));
        }
        self.index.push_back(entry);
    }

    /// Whether the oldest event must be evicted. The newest event never is, however large.
    pub(super) fn is_over_limit(&self) -> bool {
        self.bytes > self.bytes_max && self.index.len() > 1
    }

    /// Removes the oldest event.
    pub(super) fn evict(&mut self) {
        let seq = self.first_seq();
        let Some(entry) = self.index.pop_front() else { return };
        self.bytes -= entry.charged_bytes();
        if EVENT_TYPES[entry.kind] == "container.close" {
            self.bytes -= self.containers.forget(seq);
        }
        // A segment is removed with its last event, except the segment that is written to.
        while self.segments.len() > 1
            && self.index.front().is_none_or(|next| next.segment > self.first_segment)
        {
            self.first_segment += 1;
            let removed = self.segments.pop_front().unwrap_or_default();
            // A segment that an event has made larger is freed and not kept as the spare segment:
            // the allocator may have made a mapping of its own for it.
            if removed.capacity() <= SEGMENT_BYTES {
                self.spare = removed;
                self.spare.clear();
            }
        }
    }

    /// The containers of the events.
    pub(super) fn containers(&self) -> &Containers {
        &self.containers
    }

    /// The bytes that all events and containers together count towards the limit of the journal.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
