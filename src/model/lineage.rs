//! The place of a process in its tree.

use serde::{Deserialize, Serialize};

use super::ProcessKey;

/// The parents of a process. Pids are those of the host's pid namespace, except for `vpid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// The pid of the process in its own pid namespace; `None` if it is not known.
    pub vpid: Option<i32>,
    /// The pid of the parent; 0 if it is not known.
    pub parent_pid: i32,
    /// The parent's start in clock ticks since boot; 0 if it is not known.
    pub parent_start_ticks: u64,
    /// The pid of the parent's parent; 0 if it is not known.
    pub grandparent_pid: i32,
}

impl Lineage {
    /// The identity of the parent; `None` unless the parent's pid and start are known.
    #[must_use]
    pub fn parent(self) -> Option<ProcessKey> {
        (self.parent_pid > 0 && self.parent_start_ticks > 0)
            .then(|| ProcessKey::new(self.parent_pid, self.parent_start_ticks))
    }
}
