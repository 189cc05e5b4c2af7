//! The identity of a network namespace.

use serde::{Deserialize, Serialize};

/// The identity of a network namespace.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NetworkNamespace {
    /// The inode number, as `/proc/PID/ns/net` shows it. The kernel reuses it after the end of the
    /// namespace.
    pub inode: u32,
    /// The kernel's number of the namespace, which is never reused (`SO_NETNS_COOKIE`); `None`
    /// before Linux 5.14.
    pub cookie: Option<u64>,
}
