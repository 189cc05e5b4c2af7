//! A system that reports nothing yet. It never invents an answer: what can fail returns
//! [`Unsupported`](std::io::ErrorKind::Unsupported), and no process is found.

pub mod cgroup;
mod directory_watch;
pub mod process;
pub mod sockets;
mod waker;

pub use directory_watch::DirectoryWatch;
use nix::time::ClockId;
pub use waker::Waker;

use crate::clock;

/// Whether shims can run on this system.
pub const HAS_SHIMS: bool = false;

/// Nanoseconds since boot, as far as this system counts them.
#[must_use]
pub fn boottime_ns() -> u64 {
    clock::read(ClockId::CLOCK_MONOTONIC)
}

fn unsupported(what: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, what)
}
