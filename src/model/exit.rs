//! The exit of a process, as the shim reaps it.

use std::time::SystemTime;

use super::Ended;

/// The exit of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The time at which the shim reaped the process.
    pub timestamp: SystemTime,
    /// The pid in the shim's pid namespace.
    pub pid: i32,
    /// The exit code or the signal, as waitid(2) reports them apart.
    pub ended: Ended,
}

impl Exit {
    /// The status in go-runc's form: 0–255, or 128 + the signal. A process that exits with 137 and
    /// one that is killed have the same; [`ended`](Self::ended) distinguishes them.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.ended.status()
    }
}
