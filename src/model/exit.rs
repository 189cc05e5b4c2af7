//! The exit of a process that the shim has reaped.

use std::time::SystemTime;

use super::Ended;

/// The exit of one process: when, and with which code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The time at which the shim reaped the process.
    pub timestamp: SystemTime,
    /// The pid in the shim's pid namespace.
    pub pid: i32,
    /// The exit code or the signal; waitid(2) distinguishes the two.
    pub ended: Ended,
}

impl Exit {
    /// The status in go-runc's form: 0–255, or 128 + the signal. A process that exits with code 137
    /// and a process that SIGKILL ends have the same status; [`ended`](Self::ended) distinguishes
    /// the two.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.ended.status()
    }
}
