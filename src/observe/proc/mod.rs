//! What `/proc` and the cgroup file system tell of processes.
//!
//! Called by the sources that have no better way, for looks at the beginning and after a loss, and
//! for the questions whether a dead process was reaped and who still holds its output. Calls read
//! files of the kernel: microseconds for a process, milliseconds for a large container, so never on
//! the thread that answers RPCs.
//!
//! A pid may be anybody's by the time it is asked about. Whatever is returned was checked
//! afterwards to be of the process that was meant: its start in clock ticks is compared again.
//! Names and arguments are bytes; every read is bounded; nothing here panics and nothing here
//! writes.

mod cgroup;
mod holders;
mod image;
mod look;
mod read;
mod reaped;
mod sockets;
mod stat;

pub use cgroup::{Membership, Memberships, Place, cgroup_id, members};
pub use holders::{holders, outputs};
pub use image::{ARGS_LIMIT, image};
pub use look::{LookError, look, pids, processes_of_tree};
pub use reaped::Reaped;
pub use sockets::socket_holders;
pub use stat::{Status, identify, lineage, mount_namespace, pid_namespace, start_ticks_at};

pub(super) use image::{image_of, judged};
pub(super) use look::look_after;
pub(super) use stat::{Stat, lineage_of};

#[cfg(test)]
pub(in crate::observe) mod tests;
