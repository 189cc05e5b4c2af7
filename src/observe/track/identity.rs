//! Which process a record is about, as exactly as its source knows.

use std::{cmp::Ordering, num::NonZeroU64};

use crate::{model::ProcessKey, observe::record::Provenance};

/// A process in the tracker: its key, and its start to the nanosecond where the source knows that.
///
/// A key has the start in clock ticks, because `/proc` does not have more. Within one tick a
/// container can use one pid for several processes (clone3 with `set_tid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) key: ProcessKey,
    pub(super) start_ns: Option<NonZeroU64>,
}

impl Identity {
    pub(super) fn new(key: ProcessKey, provenance: Option<Provenance>) -> Self {
        let start_ns = provenance.and_then(|provenance| NonZeroU64::new(provenance.start_ns));
        Self { key, start_ns }
    }

    /// Whether both can be one process: nothing that is known of both differs.
    pub(super) fn may_be_same(self, other: Self) -> bool {
        self.key.pid == other.key.pid && self.compare_starts(other).is_none_or(Ordering::is_eq)
    }

    /// Which of two processes started first; `None` unless both starts are known.
    pub(super) fn compare_starts(self, other: Self) -> Option<Ordering> {
        match (self.start_ns, other.start_ns) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => self.key.compare_starts(other.key),
        }
    }
}

impl From<ProcessKey> for Identity {
    fn from(key: ProcessKey) -> Self {
        Self { key, start_ns: None }
    }
}
