//! What the tracker gives its caller: events, and queries that only the caller can answer.

use std::mem;

use crate::{
    model::{Body, FileId, Gap, Grade, ProcessKey},
    observe::record::TargetId,
};

#[cfg(doc)]
use super::{super::record::ScanStep, Tracker};

/// What the caller of the tracker has to do after a record or a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append this event to the event log.
    Emit(Emission),
    /// A process has exited. Answer with [`Tracker::confirm_reaped`] once its whole thread group is
    /// dead and reaped (a pidfd shows that, or the absence of the process). Queries may be
    /// collected and made together: only the done event of the process waits for the answer.
    QueryReaped {
        /// The target that the process belongs to.
        target: TargetId,
        /// The process that has exited.
        key: ProcessKey,
    },
    /// Answer with [`Tracker::set_holders`] which of `among` have one of `outputs` open.
    QueryHolders {
        /// The target that the process belongs to.
        target: TargetId,
        /// The process that has exited.
        key: ProcessKey,
        /// The files that were its stdout and its stderr; `None` for each that is not known.
        outputs: [Option<FileId>; 2],
        /// Its living descendants, in no order.
        among: Vec<ProcessKey>,
    },
    /// Scan `/proc` and give the records, from [`ScanStep::Began`] to [`ScanStep::Ended`]. Between
    /// the scan and `Ended` read the source until it is empty: an exit record that it still has
    /// is more exact than an absence.
    Scan {
        /// The target that is to be scanned.
        target: TargetId,
    },
}

/// An event before it has a sequence number.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// The target that the event is about; `None` for an event about every target.
    pub target: Option<TargetId>,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
    /// How exact the event is.
    pub grade: Grade,
    /// Whether the shim derived the event (done, a report of its reaper, the result of a scan) and
    /// did not make it from a record of the source.
    pub derived: bool,
    /// The type and the content of the event.
    pub body: Body,
}

/// The parts of an emission besides its body: the time, the grade and whether it was derived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at_ns: u64,
    pub(super) grade: Grade,
    pub(super) derived: bool,
}

impl Stamp {
    /// The stamp of an event that a record of the source reports.
    pub(super) fn recorded(at_ns: u64, grade: Grade) -> Self {
        Self { at_ns, grade, derived: false }
    }

    /// The stamp of an event that no record reports.
    pub(super) fn derived(at_ns: u64, grade: Grade) -> Self {
        Self { at_ns, grade, derived: true }
    }
}

/// The effects that the caller of the tracker has not taken yet, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    effects: Vec<Effect>,
}

impl Output {
    /// Adds an event of one target.
    pub(super) fn emit(&mut self, target: TargetId, stamp: Stamp, body: Body) {
        let Stamp { at_ns, grade, derived } = stamp;
        self.push(Emission { target: Some(target), at_ns, grade, derived, body });
    }

    /// Adds a gap; `None` for a gap of every target.
    pub(super) fn report_gap(&mut self, target: Option<TargetId>, gap: Gap) {
        let (at_ns, grade) = (gap.to_ns, Grade::Exact);
        self.push(Emission { target, at_ns, grade, derived: true, body: Body::Gap(gap) });
    }

    pub(super) fn push(&mut self, emission: Emission) {
        self.effects.push(Effect::Emit(emission));
    }

    pub(super) fn query_reaped(&mut self, target: TargetId, key: ProcessKey) {
        self.effects.push(Effect::QueryReaped { target, key });
    }

    pub(super) fn query_holders(
        &mut self,
        target: TargetId,
        key: ProcessKey,
        outputs: [Option<FileId>; 2],
        among: Vec<ProcessKey>,
    ) {
        self.effects.push(Effect::QueryHolders { target, key, outputs, among });
    }

    pub(super) fn request_scan(&mut self, target: TargetId) {
        self.effects.push(Effect::Scan { target });
    }

    /// Drops the queries about a target that has ended.
    pub(super) fn drop_queries(&mut self, ended: TargetId) {
        self.effects.retain(|effect| match effect {
            Effect::QueryReaped { target, .. }
            | Effect::QueryHolders { target, .. }
            | Effect::Scan { target } => *target != ended,
            Effect::Emit(_) => true,
        });
    }

    /// Removes and returns all effects.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        // The buffer is freed together with the effects, because it may be large after a storm.
        mem::take(&mut self.effects)
    }
}
