//! The account of one target: how many of its records became events, were lost, or had another
//! outcome.

use crate::model::{Gap, RecordCounts, Stage};

/// After how many further lost records another gap is reported, while the tracker has no capacity
/// for processes.
const LOSSES_BEFORE_NEXT_GAP: u64 = 1024;

/// What became of one record, for the account of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOutcome {
    /// The record became at least one event.
    Reported,
    /// The record became no event: it is about a process of the runtime, or about a fact that is
    /// already known.
    Silent,
    /// The tracker or the port table had no capacity for the process or the socket of the record.
    NoCapacity,
    /// The record waits for the result of a runtime call, and is counted later.
    Waits,
}

/// The numbers of records since the observation of the target began. Lost records are reported in a
/// [`Gap`], which the methods return when it is due.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The number of records that became events.
    delivered: u64,
    /// The number of records with [`RecordOutcome::Silent`].
    runtime: u64,
    /// The number of records with [`RecordOutcome::NoCapacity`].
    no_capacity: u64,
    /// The number of records that were lost for want of capacity and that no gap has reported yet.
    unreported: u64,
    /// The time since which `unreported` counts, in nanoseconds; 0 while the tracker has capacity.
    since_ns: u64,
}

impl Account {
    /// Counts the outcome of a record. Returns a gap if one is due.
    pub(super) fn count(&mut self, outcome: RecordOutcome, at_ns: u64) -> Option<Gap> {
        match outcome {
            RecordOutcome::Reported => self.delivered += 1,
            RecordOutcome::Silent => self.runtime += 1,
            RecordOutcome::Waits => {}
            RecordOutcome::NoCapacity => {
                self.no_capacity += 1;
                return self.count_lost(at_ns);
            }
        }
        None
    }

    /// Counts a record as delivered that was counted as silent before, because its event was late.
    pub(super) fn recount(&mut self) {
        self.runtime = self.runtime.saturating_sub(1);
        self.delivered += 1;
    }

    /// Counts a record that was lost for want of capacity. Returns a gap for the first such record
    /// and for each further 1024.
    pub(super) fn count_lost(&mut self, at_ns: u64) -> Option<Gap> {
        let first = self.unreported == 0 && self.since_ns == 0;
        if self.since_ns == 0 {
            // At least 1, because 0 means that the tracker has capacity. A source without a clock
            // may report the time 0.
            self.since_ns = at_ns.max(1);
        }
        self.unreported += 1;
        // A gap for each loss would flood the event log at the moment when the node is busiest.
        if first || self.unreported >= LOSSES_BEFORE_NEXT_GAP { self.take_gap(at_ns) } else { None }
    }

    /// A process was added: the period without capacity, if there was one, has ended.
    pub(super) fn capacity_regained(&mut self, at_ns: u64) -> Option<Gap> {
        if self.since_ns == 0 {
            return None;
        }
        let gap = self.take_gap(at_ns);
        self.since_ns = 0;
        gap
    }

    /// Returns a gap with the records that were lost for want of capacity and are in no gap yet.
    pub(super) fn take_gap(&mut self, at_ns: u64) -> Option<Gap> {
        if self.unreported == 0 {
            return None;
        }
        let from_ns = self.since_ns.min(at_ns);
        let lost = Some(self.unreported);
        self.unreported = 0;
        self.since_ns = at_ns.max(1);
        Some(Gap { lost, stage: Stage::Observer, from_ns, to_ns: at_ns })
    }

    /// The counts for `container.close`. `seen_lost` is the kernel's account; `None` where the
    /// source does not count.
    pub(super) fn close(&self, seen_lost: Option<(u64, u64)>) -> RecordCounts {
        RecordCounts {
            // The kernel counts the processes of the runtime too, which are never reported.
            seen: seen_lost.map(|(seen, _)| seen.saturating_sub(self.runtime)),
            delivered: self.delivered,
            // The kernel delivered the records for which the tracker had no capacity, so its count
            // of losses does not include them.
            lost: seen_lost.map(|(_, lost)| lost + self.no_capacity),
            runtime: self.runtime,
        }
    }
}
