//! Sockets, as sources report them and as the system lists them.

use serde::{Deserialize, Serialize};

use super::Endpoint;

/// A listening TCP socket, a bound UDP socket, or a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The kernel's number for it, which is never reused (`SO_COOKIE`).
    pub cookie: u64,
    /// The inode of its file, as `/proc/PID/fd` shows it; 0 if it is not known.
    pub inode: u64,
    /// The inode of its network namespace.
    pub network_namespace: u32,
    /// Its local address and port; port 0 if the kernel has not chosen one yet.
    pub endpoint: Endpoint,
}

/// A socket in the system's own list of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSocket {
    /// The socket itself, with its local address.
    pub socket: Socket,
    /// The id of the cgroup on the unified hierarchy in which it was made; `None` from a kernel
    /// that does not report it (before Linux 5.7).
    pub cgroup: Option<u64>,
}

/// Which sockets the kernel is asked to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// TCP, listening.
    Listening,
    /// TCP, connected.
    Established,
    /// UDP, with a local port and no remote one.
    Bound,
    /// UDP, with a local port, connected or not.
    WithPort,
}
