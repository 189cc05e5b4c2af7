//! Facts from the kernel's files, typed: `/proc`, cgroups, mountinfo, sockets.
//!
//! There is one parser for each format. Nothing here decides what a fact means: which cgroup
//! controller to ask, which error to report and which process to follow is up to the callers
//! (`task`, `observe`, `registry`). Names, paths and arguments are bytes, because a container
//! chooses them; every read is bounded; nothing here panics on what it reads.
//!
//! ```text
//!  process      stat, status, image, identity, usage, ancestry, open descriptors, reaping
//!  namespace    the namespaces of a process, by inode
//!  cgroup       memberships, members, ids, and where a process's cgroup is
//!  mountinfo    the mounts of this process's mount namespace
//!  partitions   the names of block devices
//!  sockets      the kernel's list of sockets: sock_diag(7)
//!  unix_socket  binding and removing sockets with a path
//!  boot         the identity of this boot, and the time since the boot
//! ```

mod boot;
pub mod cgroup;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod mountinfo;
pub mod namespace;
pub(crate) mod partitions;
pub mod process;
mod read;
pub mod sockets;
pub(crate) mod unix_socket;

pub use boot::{boot_id, boottime_ns};

#[cfg(test)]
pub(crate) mod testing;
