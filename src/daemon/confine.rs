//! What the daemon gives up before it serves. It starts no other program: `lookout run` executes
//! its command itself, in the process of the client.

use nix::libc::{self, c_long};

use crate::{
    model::chain,
    sys::{
        capabilities::Capabilities,
        confine::{self, SOCKETS},
    },
};

/// The system calls of the daemon beside those of every confined program.
const CALLS: &[c_long] = &[
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Sets a damaged file of the registry aside.
    libc::SYS_linkat,
];

/// Confines this process. Must be called before there is another thread. If the kernel refuses it,
/// the daemon runs as it is, and logs that.
pub(super) fn confine() {
    // It signals processes of all users, and reads what `/proc` has about them. The unit
    // `dist/lookout.service` has the same list.
    let kept = Capabilities::KILL | Capabilities::SYS_PTRACE | Capabilities::DAC_READ_SEARCH;
    if let Err(error) = confine::confine(kept, &[SOCKETS, CALLS]) {
        tracing::warn!(error = chain(&error), "the daemon keeps its capabilities or system calls");
    }
}
