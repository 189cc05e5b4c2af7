//! The last exits of a target, so that a late or doubled record starts no dead process again.

use std::{collections::VecDeque, sync::Arc};

use super::identity::Identity;
use crate::model::Origin;

/// How many exits of one target are kept. An exit replaces the kept exit of a pid that is equal
/// modulo this number, so if the kernel assigns pids in sequence, exactly the last exits are kept.
/// A record of a process with a forgotten exit starts a new process, which the next scan of `/proc`
/// ends.
const EXITS_MAX: usize = 512;

/// How many exits of init and of the processes of execs are kept in addition, whatever their pids.
/// The shim reaps these itself, so their records may come long after their exits.
const ROOTS_MAX: usize = 64;

/// The last exits of one target: a table of fixed size, allocated at the first exit.
#[derive(Debug, Default)]
pub(super) struct RecentExits {
    slots: Vec<Option<RecentExit>>,
    roots: VecDeque<RecentExit>,
}

/// A process that has exited and is no longer in the tree.
#[derive(Debug, Clone)]
pub(super) struct RecentExit {
    pub(super) identity: Identity,
    pub(super) died_ns: u64,
    /// `None` if the process was never reported; otherwise its origin, and the id of the exec that
    /// it belonged to, if any.
    pub(super) reported: Option<(Origin, Option<Arc<str>>)>,
}

impl RecentExits {
    /// Keeps an exit. `is_root` says that it is that of init or of the process of an exec.
    pub(super) fn add(&mut self, exit: RecentExit, is_root: bool) {
        if is_root {
            self.roots.truncate(ROOTS_MAX - 1);
            self.roots.push_front(exit.clone());
        }
        if self.slots.is_empty() {
            self.slots.resize(EXITS_MAX, None);
        }
        let slot = slot_of(exit.identity.key.pid);
        self.slots[slot] = Some(exit);
    }

    /// The last exit of this pid; `None` if it is not kept any more.
    pub(super) fn last_of(&self, pid: i32) -> Option<&RecentExit> {
        let is_of_pid = |exit: &&RecentExit| exit.identity.key.pid == pid;
        let in_slot = self.slots.get(slot_of(pid))?.as_ref().filter(is_of_pid);
        in_slot.or_else(|| self.roots.iter().find(is_of_pid))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProcessKey;

    /// Check that the exits of roots are kept after others took their slots, up to a number.
    #[test]
    fn exits_of_roots_are_kept_longer() {
        let mut exits = RecentExits::default();
        let exit = |pid: i32| {
            let identity = Identity { key: ProcessKey::new(pid, 1), start_ns: None };
            RecentExit { identity, died_ns: 5, reported: None }
        };
        let (root, other, after) = (7, 7 + 512, 7 + 2 * 512);
        exits.add(exit(root), true);
        exits.add(exit(other), false);
        exits.add(exit(after), false);
        assert!(exits.last_of(root).is_some() && exits.last_of(after).is_some());
        assert!(exits.last_of(other).is_none());
        (1000..1064).for_each(|pid| exits.add(exit(pid), true));
        assert!(exits.last_of(root).is_none());
        assert_eq!(exits.roots.len(), ROOTS_MAX);
    }
}
