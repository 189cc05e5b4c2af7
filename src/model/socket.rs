//! Sockets, as sources report them and as the system lists them.

use serde::{Deserialize, Serialize};

use super::{Endpoint, NetworkNamespace};

/// A listening TCP socket, a bound UDP socket, or a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The kernel's number of the socket, which is never reused (`SO_COOKIE`).
    pub cookie: u64,
    /// The inode of the socket's file, as `/proc/PID/fd` shows it; 0 if it is not known.
    pub inode: u64,
    /// The socket's network namespace.
    pub network_namespace: NetworkNamespace,
    /// The local address and port of the socket; port 0 if the kernel has not chosen one yet.
    pub endpoint: Endpoint,
}

/// A socket in the system's own list of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSocket {
    /// The socket itself, with its local address.
    pub socket: Socket,
    /// The id of the cgroup, on the unified hierarchy, in which the socket was created; `None` from
    /// a kernel that does not report it (before Linux 5.7).
    pub cgroup: Option<u64>,
}

/// The kind of sockets that the kernel is asked to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// TCP sockets that listen.
    Listening,
    /// TCP sockets that are connected.
    Established,
    /// UDP sockets with a local port and without a remote port.
    Bound,
    /// UDP sockets with a local port, connected or not.
    WithPort,
}
