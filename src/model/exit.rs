//! How a process ended.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The end of one process, as go-runc tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When the shim reaped it.
    pub timestamp: SystemTime,
    /// The process, as the shim's pid namespace counts.
    pub pid: i32,
    /// 0–255 as it exited, or 128 + the signal that ended it.
    pub status: u32,
}
