//! The exit of a process, as the shim reaps it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The exit of one process, with a status in go-runc's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The time at which the shim reaped the process.
    pub timestamp: SystemTime,
    /// The pid in the shim's pid namespace.
    pub pid: i32,
    /// The exit code, 0–255, or 128 + the signal that ended the process.
    pub status: u32,
}
