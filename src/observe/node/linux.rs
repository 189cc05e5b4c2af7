//! Probes, pins and cleanup of a Linux node.

use std::{io, path::PathBuf};

use crate::{
    observe::{
        capability::{Capabilities, refusal},
        source::{
            Source, SourceError,
            bpf::{self, BpfSource, Status, Swept},
            poll::{self, PollSource},
            probe::negotiate,
        },
    },
    registration,
};

/// Probes the running kernel for what a shim on this node could observe.
#[must_use]
pub fn probe() -> Capabilities {
    negotiate(|| bpf::probe().map_err(|error| refusal(&error)), bpf::probe_udp)
}

/// The eBPF features of the running kernel.
#[cfg(feature = "cli")]
#[must_use]
pub fn kernel_features() -> bpf::Features {
    bpf::features()
}

/// Where the node's bpffs is mounted, and what is pinned in it.
///
/// # Errors
///
/// [`SourceError`] if no bpffs is mounted or it cannot be read.
pub fn pinned() -> Result<(PathBuf, Status), SourceError> {
    let bpffs = bpf::bpffs()?;
    let status = bpf::status(&bpffs)?;
    Ok((bpffs, status))
}

/// Removes what dead shims left in the kernel. It is no error if they left nothing.
///
/// # Errors
///
/// [`SourceError`] if no bpffs is mounted or the kernel refuses.
pub fn sweep() -> Result<Swept, SourceError> {
    bpf::sweep(&bpf::bpffs()?)
}

/// As [`sweep`], and then frees the memory of rings without an owner. Returns the number of freed
/// rings too. Waits for an RCU grace period of the kernel for each ring, about 12 ms.
///
/// # Errors
///
/// As [`sweep`].
pub fn sweep_and_free() -> Result<(Swept, usize), SourceError> {
    let swept = sweep()?;
    Ok((swept, bpf::free_rings(&bpf::bpffs()?)?))
}

/// Cleans up after a shim that was killed: removes its registration and what it left in the
/// kernel. If the shim is alive or has cleaned up, this only reads its registration file.
///
/// # Errors
///
/// [`SourceError`] if the registration cannot be removed or the sweep fails. After a failed sweep
/// the registration is removed nevertheless.
pub fn clean_up(namespace: &str, shim_id: &str) -> Result<(), SourceError> {
    let dir = registration::runtime_dir();
    if !registration::is_stale(&dir, namespace, shim_id) {
        return Ok(());
    }
    // Before the sweep, so that the registration is removed even if the sweep fails.
    if let Err(source) = registration::remove(&dir, namespace, shim_id) {
        return Err(SourceError::Kernel { action: "remove a dead shim's registration", source });
    }
    sweep().map(drop)
}

/// Opens a source that belongs to the caller alone.
pub(in crate::observe) type Open = fn() -> Result<Box<dyn Source>, SourceError>;

/// How to open the sources of the library, the best source first.
pub(in crate::observe) const SOURCES: [Open; 2] =
    [own_ring, || Ok(Box::new(PollSource::new(poll::SCAN_INTERVAL)))];

/// The eBPF source with a ring for this process alone. Loads and pins the programs if no process
/// has done that.
fn own_ring() -> Result<Box<dyn Source>, SourceError> {
    const RING: u32 = 64 << 10;
    let bpffs = bpf::bpffs()?;
    Ok(Box::new(BpfSource::open(&bpffs, RING, &mut || {
        bpf::load(&bpffs).map_err(io::Error::other)
    })?))
}
