//! The last exits of a target, so that a late or doubled record starts no dead process again.

use std::sync::Arc;

use super::identity::Identity;

/// How many exits of one target are kept. An exit replaces the kept exit of a pid that is equal
/// modulo this number, so if the kernel assigns pids in sequence, exactly the last exits are kept.
/// A record of a process with a forgotten exit starts a new process, which the next scan of `/proc`
/// ends.
const EXITS_MAX: usize = 512;

/// The last exits of one target: a table of fixed size, allocated at the first exit.
#[derive(Debug, Default)]
pub(super) struct RecentExits {
    slots: Vec<Option<RecentExit>>,
}

/// A process that has exited and is no longer in the tree.
#[derive(Debug, Clone)]
pub(super) struct RecentExit {
    pub(super) identity: Identity,
    pub(super) died_ns: u64,
    /// `None` if the process was never reported; otherwise `Some`, with the id of the exec that it
    /// belonged to, if any.
    pub(super) reported: Option<Option<Arc<str>>>,
}

impl RecentExits {
    pub(super) fn add(&mut self, exit: RecentExit) {
        if self.slots.is_empty() {
            self.slots.resize(EXITS_MAX, None);
        }
        let slot = slot_of(exit.identity.key.pid);
        self.slots[slot] = Some(exit);
    }

    /// The last exit of this pid; `None` if another pid has taken its slot since.
    pub(super) fn last_of(&self, pid: i32) -> Option<&RecentExit> {
        self.slots.get(slot_of(pid))?.as_ref().filter(|exit| exit.identity.key.pid == pid)
    }

    /// Whether a record of this process at `at_ns` is late: the process has exited already.
    pub(super) fn covers(&self, identity: Identity, at_ns: u64) -> bool {
        let last = self.last_of(identity.key.pid);
        last.is_some_and(|exit| match identity.compare_starts(exit.identity) {
            Some(order) => order.is_le(),
            // If one of the start times is not known, only the order of the times distinguishes two
            // processes with the same pid.
            None => at_ns <= exit.died_ns,
        })
    }
}

fn slot_of(pid: i32) -> usize {
    usize::try_from(pid).unwrap_or_default() % EXITS_MAX
}
