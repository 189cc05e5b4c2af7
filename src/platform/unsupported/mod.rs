//! The platform for systems that are not supported yet. Functions that can fail return
//! [`Unsupported`](std::io::ErrorKind::Unsupported), and the others return an empty result instead
//! of an invented one.

pub mod cgroup;
mod directory_watch;
pub mod process;
pub mod sockets;
mod waker;

pub use directory_watch::DirectoryWatch;
pub use waker::Waker;

use crate::clock;

/// Whether shims can run on this system.
pub const HAS_SHIMS: bool = false;

/// A raised scheduling priority, which does nothing on this system.
#[derive(Debug, Default)]
pub struct RaisedPriority;

impl RaisedPriority {
    /// Changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Changes nothing.
    pub fn adjust(&mut self) {}

    /// Changes nothing.
    pub fn lower(&mut self) {}
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which need not start at boot.
#[must_use]
pub fn boottime_ns() -> u64 {
    clock::monotonic_ns()
}

/// The error that the functions for this platform return, with a text that says what is not
/// supported.
fn unsupported(what: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, what)
}
