//! The records that were read from the ring and are not delivered yet, in a queue for each target.
//!
//! The containers of a pod have one ring. If records stayed there while the records before them are
//! processed, a container with records that take long would make its neighbours lose theirs. So the
//! ring is emptied at each read, however many records are wanted, and the targets take turns.

use std::collections::{BTreeMap, VecDeque};

use super::decode::Decoded;
use crate::observe::record::TargetId;

/// The bytes of memory that a queued record takes without its strings.
const RECORD_BYTES: usize = size_of::<Queued>() + 256;

/// The queues of all targets.
#[derive(Debug)]
pub(super) struct Queues {
    of_targets: BTreeMap<TargetId, Queue>,
    /// The bytes of memory that all queues take together.
    bytes: usize,
    /// The most bytes that all queues may take together.
    capacity_bytes: usize,
    /// The target that was served last.
    last: Option<TargetId>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Queued>,
    bytes: usize,
}

/// An entry of a queue.
#[derive(Debug)]
pub(super) enum Queued {
    /// A record.
    Record(Decoded),
    /// Records are missing at this position: they were dropped because the target had used up its
    /// share of the queues.
    Dropped {
        /// The target that the dropped records belong to.
        target: TargetId,
        /// The time of the last dropped record, in nanoseconds of `CLOCK_MONOTONIC`.
        at_ns: u64,
        /// The number of dropped records.
        count: u64,
    },
}

impl Queues {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        Self { of_targets: BTreeMap::new(), bytes: 0, capacity_bytes, last: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_targets.is_empty()
    }

    /// Whether records of this target are queued.
    pub(super) fn has(&self, target: TargetId) -> bool {
        self.of_targets.contains_key(&target)
    }

    /// Queues a record. Returns `true` if the record was dropped, because its target has used up
    /// its share.
    ///
    /// A target may use as many bytes as are free. So one target that makes records without end
    /// gets half of the capacity, two that do so together get a third each, and the others always
    /// find free bytes.
    pub(super) fn push(&mut self, decoded: Decoded, string_bytes: usize) -> bool {
        let bytes = RECORD_BYTES + string_bytes;
        let queue = self.of_targets.entry(decoded.target).or_default();
        if queue.bytes + bytes <= self.capacity_bytes.saturating_sub(self.bytes) {
            queue.bytes += bytes;
            self.bytes += bytes;
            queue.entries.push_back(Queued::Record(decoded));
            return false;
        }
        let Decoded { target, at_ns: now, .. } = decoded;
        match queue.entries.back_mut() {
            Some(Queued::Dropped { at_ns, count, .. }) => (*at_ns, *count) = (now, *count + 1),
            _ => queue.entries.push_back(Queued::Dropped { target, at_ns: now, count: 1 }),
        }
        true
    }

    /// Passes about `limit` entries to `sink`, the same number from each target that has entries.
    pub(super) fn take(&mut self, limit: usize, mut sink: impl FnMut(Queued)) {
        let targets: Vec<TargetId> = self.of_targets.keys().copied().collect();
        if targets.is_empty() {
            return;
        }
        let each = (limit / targets.len()).max(1);
        // Begins after the target that was served last, so that no target is always the first.
        let first = targets.partition_point(|target| Some(*target) <= self.last);
        for target in targets[first..].iter().chain(&targets[..first]).take(limit.max(1)) {
            let Some(queue) = self.of_targets.get_mut(target) else { continue };
            let taken = queue.entries.len().min(each);
            queue.entries.drain(..taken).for_each(&mut sink);
            if queue.entries.is_empty() {
                self.bytes -= queue.bytes;
                self.of_targets.remove(target);
            } else {
                // The size of a single entry is not stored, so each counts as the average of its
                // queue.
                let freed = queue.bytes * taken / (taken + queue.entries.len());
                queue.bytes -= freed;
                self.bytes -= freed;
            }
            self.last = Some(*target);
        }
    }

    /// Drops the queue of a target that is no longer watched.
    pub(super) fn forget(&mut self, target: TargetId) {
        if let Some(queue) = self.of_targets.remove(&target) {
            self.bytes -= queue.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
