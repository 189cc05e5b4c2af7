//! Exits that are received before their process is known, because a source may reorder records.

use super::{identity::Identity, tree::PendingExit};
use crate::model::Grade;

/// How many early exits of one target are kept. Beyond this number the oldest exit is dropped: if
/// the fork of its process is still received, the process counts as living until the next scan.
const EARLY_EXITS_MAX: usize = 64;

/// The early exits of one target, oldest first.
#[derive(Debug, Default)]
pub(super) struct EarlyExits {
    exits: Vec<EarlyExit>,
}

/// An exit that was received before its process is known.
#[derive(Debug)]
pub(super) struct EarlyExit {
    pub(super) identity: Identity,
    pub(super) grade: Grade,
    /// The wait status as wait(2) returns it; `None` if the source does not know it.
    pub(super) wait_status: Option<u32>,
    pub(super) pending_exit: PendingExit,
}

impl EarlyExits {
    /// Keeps an exit, unless an exit of the same process is kept already.
    pub(super) fn add(&mut self, exit: EarlyExit) {
        if self.exits.iter().any(|known| known.identity.may_be_same(exit.identity)) {
            return;
        }
        if self.exits.len() >= EARLY_EXITS_MAX {
            self.exits.remove(0);
        }
        self.exits.push(exit);
    }

    /// Whether an exit of the process at `at_ns` or later is kept.
    pub(super) fn covers(&self, identity: Identity, at_ns: u64) -> bool {
        self.exits
            .iter()
            .any(|exit| exit.identity.may_be_same(identity) && exit.pending_exit.at_ns >= at_ns)
    }

    /// Removes and returns the exit of a process. `last_ns` is the time of the latest record of the
    /// process.
    pub(super) fn take(&mut self, identity: Identity, last_ns: u64) -> Option<EarlyExit> {
        // An exit before the latest record of the process is the exit of an earlier process with
        // the same pid.
        let position = self.exits.iter().position(|exit| {
            exit.identity.may_be_same(identity) && exit.pending_exit.at_ns >= last_ns
        })?;
        Some(self.exits.remove(position))
    }
}
