//! The last deaths, so that a late or doubled record does not raise the dead.

use std::sync::Arc;

use crate::model::ProcessKey;

/// How many deaths are remembered for a target: the last one of each pid modulo this, so with pids
/// given in a row exactly the last ones. What is older is forgotten: a record that comes later than
/// this many deaths is taken for a new process, and the next look at `/proc` ends it.
const DEATHS_MAX: usize = 512;

/// A fixed table, made at the first death.
#[derive(Debug, Default)]
pub(super) struct RecentExits {
    deaths: Vec<Option<Gone>>,
}

/// One that was.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub(super) key: ProcessKey,
    pub(super) died_ns: u64,
    /// Whether it was told, and of which exec it was.
    pub(super) told: Option<Option<Arc<str>>>,
}

impl RecentExits {
    pub(super) fn add(&mut self, gone: Gone) {
        if self.deaths.is_empty() {
            self.deaths.resize(DEATHS_MAX, None);
        }
        let slot = slot(gone.key.pid);
        self.deaths[slot] = Some(gone);
    }

    /// The last death of this pid.
    pub(super) fn of(&self, pid: i32) -> Option<&Gone> {
        self.deaths.get(slot(pid))?.as_ref().filter(|gone| gone.key.pid == pid)
    }

    /// Whether a record of this process at this time is about one that is dead.
    pub(super) fn has(&self, key: ProcessKey, at_ns: u64) -> bool {
        self.of(key.pid).is_some_and(|gone| {
            if key.start_ticks == 0 || gone.key.start_ticks == 0 {
                at_ns <= gone.died_ns
            } else {
                key.start_ticks <= gone.key.start_ticks
            }
        })
    }
}

fn slot(pid: i32) -> usize {
    usize::try_from(pid).unwrap_or_default() % DEATHS_MAX
}
