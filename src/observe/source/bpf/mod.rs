//! The eBPF source: one set of programs a node, one ring a shim.
//!
//! ```text
//!  loader    a short-lived process, once a node: loads bpf/, attaches, pins under
//!               <bpffs>/lookout/v<abi>/
//!  pins      what is pinned, by name; where bpffs is; the lock
//!  source    a shim: takes a slot, puts its ring there, enters its targets; reads
//!  ring      a shim's ring and its reader
//!  decode    pure: the bytes of one record
//!  tree      what already runs below a process
//!  sweep     what dead shims left; what is there; taking it all away
//!  layout    bpf/record.h in Rust
//! ```
//!
//! The shim itself never loads anything: libbpf's loading costs megabytes that would stay. It opens
//! pins, and holds a descriptor of each link, so that neither unpinning nor unmounting bpffs can
//! blind it. Every shim of a node shares the programs and the maps; what one does for its own
//! containers is a hash insert, and a foreign event costs a failed look-up however many shims there
//! are.
//!
//! Where the pins are is [`bpffs`]'s affair: `LOOKOUT_BPFFS` names a mount of one's own. Nothing
//! here ever waits for another process, except for the lock while a set is loaded.

mod decode;
mod layout;
mod loader;
mod pins;
mod ring;
mod source;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;

pub use loader::{load, probe, probe_udp};
pub use pins::{ABI, BPFFS_VARIABLE, bpffs};
pub use source::BpfSource;
pub use sweep::{PinnedLink, Status, Swept, free_rings, status, sweep, unpin};

use std::io;

use super::SourceError;

/// For `map_err`: what libbpf or the kernel said while `action` was tried.
fn refused<E: Into<Refusal>>(action: &'static str) -> impl FnOnce(E) -> SourceError {
    move |error| SourceError::Kernel { action, source: error.into().0 }
}

/// An error of the system or of libbpf, as one.
struct Refusal(io::Error);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<nix::Error> for Refusal {
    fn from(error: nix::Error) -> Self {
        Self(error.into())
    }
}

impl From<libbpf_rs::Error> for Refusal {
    fn from(error: libbpf_rs::Error) -> Self {
        let kind = match error.kind() {
            libbpf_rs::ErrorKind::NotFound => io::ErrorKind::NotFound,
            libbpf_rs::ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            libbpf_rs::ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
            libbpf_rs::ErrorKind::OutOfMemory => io::ErrorKind::OutOfMemory,
            _ => io::ErrorKind::Other,
        };
        Self(io::Error::new(kind, error))
    }
}
