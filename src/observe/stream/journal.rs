//! The newest events, as the bytes that subscribers get, within a bound.
//!
//! ```text
//!  index      [ 7 exec ][ 8 exit ][ 9 done ][ 10 fork ] …    when, which type, where
//!                  │         └──────┐
//!  segments   [ …… 7 …… 8 …… ][ 9 … 10 …           ]         32 KiB each, or one large event more
//! ```
//!
//! Bytes and not what they were made of: an event would keep a handful of allocations alive, and to
//! give those back one by one, long after they have left the caches, took more than all else that
//! is done for an event.

use std::{collections::VecDeque, mem::size_of};

use crate::{
    model::Event,
    observe::encode::{Encoded, Encoder, Head},
};

/// The room of a segment, in bytes. Far below what the allocator would ask the kernel for each
/// time, and no more than the smallest journal's half.
const SEGMENT: usize = 32 << 10;

/// When it is full: most events fit in what is left, and a longer one makes it larger.
const FULL: usize = SEGMENT - (2 << 10);

/// A queue of events with consecutive seqs, oldest first.
#[derive(Debug)]
pub(super) struct Journal {
    index: VecDeque<Span>,
    head: Head,
    segments: VecDeque<Vec<u8>>,
    /// How many segments have gone: what the oldest one that is here is called.
    first_segment: u64,
    /// One that has gone, for its room.
    spare: Vec<u8>,
    /// The seq that the next event gets.
    next_seq: u64,
    bytes: usize,
    bytes_max: usize,
}

/// An event, and where it is.
#[derive(Debug, Clone, Copy)]
struct Span {
    monotonic_ns: u64,
    segment: u64,
    begin: usize,
    end: usize,
    kind: usize,
}

impl Span {
    /// What keeping it costs.
    fn charge(&self) -> usize {
        size_of::<Self>() + self.end - self.begin
    }
}

impl Journal {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            index: VecDeque::new(),
            head: Head::default(),
            segments: VecDeque::new(),
            first_segment: 0,
            spare: Vec::new(),
            next_seq: 1,
            bytes: 0,
            bytes_max,
        }
    }

    /// The seq of the newest event that ever was; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.next_seq - 1
    }

    /// The seq of the oldest event that is still here; the next one's while there is none.
    pub(super) fn first(&self) -> u64 {
        self.next_seq - self.index.len() as u64
    }

    /// The oldest event that is still here.
    pub(super) fn oldest(&self) -> Option<Encoded<'_>> {
        self.index.front().map(|place| self.encoded(self.first(), place))
    }

    /// The events from this seq on.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = Encoded<'_>> {
        let first = self.first();
        let skip =
            usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX).min(self.index.len());
        let seqs = first + skip as u64..;
        seqs.zip(self.index.range(skip..)).map(|(seq, place)| self.encoded(seq, place))
    }

    fn encoded(&self, seq: u64, place: &Span) -> Encoded<'_> {
        let Span { monotonic_ns, segment, begin, end, kind } = *place;
        let segment = usize::try_from(segment - self.first_segment).unwrap_or(usize::MAX);
        Encoded { seq, monotonic_ns, kind, bytes: &self.segments[segment][begin..end] }
    }

    /// Numbers an event and keeps it. Afterwards there may be too much: see
    /// [`is_over`](Self::is_over).
    pub(super) fn append(&mut self, event: &Event, encoder: Encoder<'_>) {
        if self.segments.back().is_none_or(|last| last.len() >= FULL) {
            self.segments.push_back(std::mem::take(&mut self.spare));
        }
        let segment = self.first_segment + self.segments.len() as u64 - 1;
        let Some(last) = self.segments.back_mut() else { return };
        let begin = last.len();
        encoder.event(self.next_seq, event, &mut self.head, last);
        if last.len() > SEGMENT {
            last.shrink_to_fit();
        }
        let (monotonic_ns, kind) = (event.monotonic_ns, event.body.kind());
        let place = Span { monotonic_ns, segment, begin, end: last.len(), kind };
        self.next_seq += 1;
        self.bytes += place.charge();
        if self.index.len() == self.index.capacity() {
            // Doubling would keep room for twice of what may ever be here.
            self.index.reserve_exact((self.index.len() / 4).max(32));
        }
        self.index.push_back(place);
    }

    /// Whether the oldest event has to go. The newest never has to.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max && self.index.len() > 1
    }

    /// Lets the oldest event go.
    pub(super) fn evict(&mut self) {
        let Some(place) = self.index.pop_front() else { return };
        self.bytes -= place.charge();
        // A segment goes with its last event; the one that is written to stays.
        while self.segments.len() > 1
            && self.index.front().is_none_or(|next| next.segment > self.first_segment)
        {
            self.first_segment += 1;
            let gone = self.segments.pop_front().unwrap_or_default();
            if gone.capacity() <= 2 * SEGMENT {
                self.spare = gone;
                self.spare.clear();
            }
        }
    }

    /// What all its events cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
