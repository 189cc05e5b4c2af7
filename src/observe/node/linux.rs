//! What concerns the node rather than one shim: what it can observe, what is left of shims that
//! died.

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

/// What a shim could observe here, asked of the running kernel.
#[must_use]
pub fn probe() -> Capabilities {
    negotiate(|| bpf::probe().map_err(|error| refusal(&error)), bpf::probe_udp)
}

/// What is pinned in the node's bpffs, and where that is.
///
/// # Errors
///
/// [`SourceError`] where there is no bpffs, or where it cannot be read.
pub fn pinned() -> Result<(PathBuf, Status), SourceError> {
    let bpffs = bpf::bpffs()?;
    let status = bpf::status(&bpffs)?;
    Ok((bpffs, status))
}

/// Removes what dead shims left in the kernel. Nothing left is no error.
///
/// # Errors
///
/// [`SourceError`] where there is no bpffs, or where the kernel refuses.
pub fn sweep() -> Result<Swept, SourceError> {
    bpf::sweep(&bpf::bpffs()?)
}

/// As [`sweep`], and frees the memory of rings that nobody has: how many.
///
/// # Errors
///
/// As [`sweep`].
pub fn sweep_and_free() -> Result<(Swept, usize), SourceError> {
    let swept = sweep()?;
    Ok((swept, bpf::free_rings(&bpf::bpffs()?)?))
}

/// After a shim that has not left by itself: removes its registration, and what it left in the
/// kernel. One that lives, or that has cleaned up, costs a look at one file.
///
/// # Errors
///
/// [`SourceError`] of the sweep; the registration is gone all the same.
pub fn clean_up(namespace: &str, shim_id: &str) -> Result<(), SourceError> {
    let dir = registration::runtime_dir();
    if !registration::is_stale(&dir, namespace, shim_id) {
        return Ok(());
    }
    if let Err(source) = registration::remove(&dir, namespace, shim_id) {
        return Err(SourceError::Kernel { action: "remove a dead shim's registration", source });
    }
    sweep().map(drop)
}

/// Opens a source of its own.
pub(in crate::observe) type Open = fn() -> Result<Box<dyn Source>, SourceError>;

/// What tells of ports outside any container, the best first.
pub(in crate::observe) const PORT_SOURCES: [Open; 2] =
    [own_ring, || Ok(Box::new(PollSource::new(poll::INTERVAL)))];

/// The programs with a ring of this process's own; they are loaded where they are not.
fn own_ring() -> Result<Box<dyn Source>, SourceError> {
    const RING: u32 = 64 << 10;
    let bpffs = bpf::bpffs()?;
    Ok(Box::new(BpfSource::open(&bpffs, RING, &mut || {
        bpf::load(&bpffs).map_err(io::Error::other)
    })?))
}
