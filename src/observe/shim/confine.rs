//! What the node's helpers give up once they have what they need. They start no other program. If
//! the kernel refuses it, a helper runs as it is, because losing a source of events is worse.

use nix::libc::{self, c_long};

use crate::sys::{
    capabilities::{self, Capabilities},
    confine::{SOCKETS, confine},
};

/// Beside those of every confined program: eBPF objects and links. libbpf keeps the number of a
/// map's descriptor by memfd_create(2) and dup3(2).
const LOADER_CALLS: &[c_long] = &[libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_memfd_create];

/// Beside those of every confined program and sockets: the signals that end the listener, and a
/// descriptor of each process that it reads.
const LISTENER_CALLS: &[c_long] = &[libc::SYS_signalfd4, libc::SYS_pidfd_open];

/// Confines the process that loads the eBPF programs. bpffs must be mounted already.
pub(super) fn confine_loader() {
    let finer = Capabilities::BPF | Capabilities::PERFMON;
    let others = Capabilities::NET_ADMIN | Capabilities::SYS_RESOURCE;
    // Linux before 5.8 has only CAP_SYS_ADMIN for this, and so has a node that is a container and
    // was given that one alone.
    let has_finer = capabilities::permitted().is_ok_and(|permitted| permitted.and(finer) == finer);
    let loading = if has_finer { finer } else { finer | Capabilities::SYS_ADMIN };
    let _ = confine(loading | others, &[LOADER_CALLS]);
}

/// Confines the process that listens to the proc connector. Its socket must be bound already,
/// because the directory may belong to another user.
pub(super) fn confine_listener() {
    // It asks the kernel to stop when it ends, and reads what /proc has about all processes.
    let kept = Capabilities::NET_ADMIN | Capabilities::SYS_PTRACE | Capabilities::DAC_READ_SEARCH;
    let _ = confine(kept, &[SOCKETS, LISTENER_CALLS]);
}
