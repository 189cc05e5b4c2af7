//! What a system's own list of sockets is asked for, and answers.

use crate::observe::record::Socket;

/// A socket that a dump found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::observe) struct Found {
    /// Which.
    pub(in crate::observe) socket: Socket,
    /// The cgroup on the unified hierarchy that it was made in; `None` from a kernel that does not
    /// tell.
    pub(in crate::observe) cgroup: Option<u64>,
}

/// Which sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::observe) enum State {
    /// TCP, listening.
    Listening,
    /// TCP, connected.
    Established,
    /// UDP, with a local port and no remote one.
    Bound,
    /// UDP, with a local port, connected or not.
    WithPort,
}
