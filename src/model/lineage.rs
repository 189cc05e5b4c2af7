//! The place of a process in its tree.

use serde::{Deserialize, Serialize};

use super::ProcessKey;

/// The parent and grandparent of a process. Pids are those of the host's pid namespace, except for
/// `vpid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// The pid of the process in its own pid namespace; `None` if it is not known.
    pub vpid: Option<i32>,
    /// The parent of the process; `None` if it is not known.
    pub parent: Option<ProcessKey>,
    /// The pid of the parent's parent; `None` if it is not known.
    pub grandparent_pid: Option<i32>,
}

impl Lineage {
    /// The pid of the parent; `None` if it is not known.
    #[must_use]
    pub fn parent_pid(self) -> Option<i32> {
        self.parent.map(|parent| parent.pid)
    }
}
