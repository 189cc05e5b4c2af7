//! What `/proc` reports of processes.
//!
//! Used by sources with incomplete records, for scans at the beginning and after a loss, and to
//! find out whether a dead process was reaped and which processes hold its output. A call reads the
//! kernel's files, which takes microseconds for a process and milliseconds for a large container,
//! so it does not belong on the thread that answers requests.
//!
//! A pid may be reused before it is read. So every function that gets a [`ProcessKey`] checks the
//! start of the process after it has read everything else.
//!
//! [`ProcessKey`]: crate::model::ProcessKey

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod holders;
mod identity;
mod image;
mod reaped;
mod socket_holders;
mod stat;
mod status;
mod tree;
#[cfg(feature = "cli")]
mod usage;

pub use holders::{HolderSearch, outputs};
pub(crate) use identity::lineage_of;
pub use identity::{
    identify, lineage, mount_namespace, pid_namespace, start_ticks, start_ticks_at, user,
};
pub use image::{ARGS_LIMIT, Alive, alive, ending, image};
pub(crate) use image::{graded, image_of};
pub use reaped::ReapedQueries;
pub use socket_holders::socket_holders;
pub use stat::Stat;
pub use status::Status;
#[cfg(feature = "cli")]
pub use tree::ProcessTable;
pub use tree::{of_tree, pids};
#[cfg(feature = "cli")]
pub use usage::{Consumption, Usage, consumption, usage};

#[cfg(test)]
mod tests;
