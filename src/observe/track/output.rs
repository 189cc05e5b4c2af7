//! What the tracker gives its caller: events, and queries that only the caller can answer.

use crate::{
    model::{Body, FileId, Gap, Grade, ProcessKey},
    observe::record::TargetId,
};

#[cfg(doc)]
use super::{super::record::What, Tracker};

/// What the caller has to do after a record or a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append this event to the event log.
    Emit(Emission),
    /// A process has exited. Answer with [`Tracker::reaped`] once its whole thread group is dead
    /// and reaped, which a pidfd or its absence shows. Query in batches: only its done waits for
    /// the answer.
    AskReaped {
        /// The target that the process belongs to.
        target: TargetId,
        /// The exited process.
        key: ProcessKey,
    },
    /// Answer with [`Tracker::holders`] which of `among` have one of `outputs` open.
    AskHolders {
        /// The target that the process belongs to.
        target: TargetId,
        /// The exited process.
        key: ProcessKey,
        /// The files that were its stdout and its stderr; `None` where one is not known.
        outputs: [Option<FileId>; 2],
        /// Its living descendants, in no order.
        among: Vec<ProcessKey>,
    },
    /// Scan `/proc` and give the records, from [`What::ScanBegan`] to [`What::ScanEnded`]. Between
    /// the scan and `ScanEnded` read the source until it is empty: an exit record that it still has
    /// is more exact than an absence.
    Look {
        /// The target to scan.
        target: TargetId,
    },
}

/// An event before it has a sequence number.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// The target that it is about; `None` for an event about every target.
    pub target: Option<TargetId>,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
    /// How exact it is.
    pub grade: Grade,
    /// Whether the shim derived it (done, a report of its reaper, the result of a scan) without a
    /// record of the source.
    pub derived: bool,
    /// The type and the content of the event.
    pub body: Body,
}

/// What an emission has besides its body: its time, its grade and whether it was derived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at_ns: u64,
    pub(super) grade: Grade,
    pub(super) derived: bool,
}

impl Stamp {
    /// Of an event that a record of the source reports.
    pub(super) fn recorded(at_ns: u64, grade: Grade) -> Self {
        Self { at_ns, grade, derived: false }
    }

    /// Of an event that no record reports.
    pub(super) fn derived(at_ns: u64, grade: Grade) -> Self {
        Self { at_ns, grade, derived: true }
    }
}

pub(super) fn gap_effect(target: Option<TargetId>, gap: Gap) -> Effect {
    Effect::Emit(Emission {
        target,
        at_ns: gap.to_ns,
        grade: Grade::Exact,
        derived: true,
        body: Body::Gap(gap),
    })
}
