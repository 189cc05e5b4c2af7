//! The platform for Linux. Most of its code is in [`crate::linux`].

mod directory_watch;
mod waker;

pub use directory_watch::DirectoryWatch;
pub use waker::Waker;

pub use crate::{
    linux::{boottime_ns, cgroup, process, sockets},
    sys::priority::RaisedPriority,
};

/// Whether shims can run on this system.
pub const HAS_SHIMS: bool = true;
