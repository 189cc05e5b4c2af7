//! The eBPF source: one set of programs for the node, one ring for each shim.
//!
//! ```text
//!  loader    in a short-lived process, once for each node: loads bpf/, attaches the programs, pins
//!            everything under <bpffs>/lookout/v<abi>/
//!  pins      the pinned maps and links by name, the mount point of bpffs, the lock
//!  source    in a shim: the targets of one shim, and reading their records
//!  slot      claims a slot and puts the shim's ring into it
//!  ring      a shim's ring and its reader
//!  queues    the records of several targets, which take turns
//!  decode    pure: from the bytes of one record to a Record
//!  calls     names the thread that spawns a runtime to the programs
//!  members   adds the processes that a target begins with
//!  sweep     removes the entries of dead shims; reads the status; removes all pins
//!  layout    the structures of bpf/record.h in Rust
//! ```
//!
//! A shim never loads programs itself, because libbpf would then keep some megabytes of its memory.
//! It opens the pins, and holds a descriptor of each link, so it still receives records after the
//! pins were removed or bpffs was unmounted. All shims of a node share the programs and maps. To
//! watch a container, a shim inserts an entry into a hash map. An event that belongs to no target
//! costs one failed look-up, however many shims there are.
//!
//! [`bpffs`] finds the mount point of bpffs; the environment variable `LOOKOUT_BPFFS` overrides it.
//! Nothing here waits for another process, except for the lock, which is held while a set is
//! loaded.

mod calls;
mod decode;
#[cfg(feature = "cli")]
mod features;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod layout;
mod loader;
mod members;
mod pins;
mod queues;
mod ring;
mod slot;
mod source;
mod sweep;
#[cfg(test)]
mod tests;

#[cfg(feature = "cli")]
pub use features::{Features, features};
pub use loader::{load, probe, probe_udp};
pub use pins::{ABI, BPFFS_VARIABLE, bpffs};
pub use source::BpfSource;
pub use sweep::{PinnedLink, Status, Swept, free_rings, status, sweep, unpin};

use std::io;

use super::SourceError;

/// For `map_err`: turns an error of libbpf or the kernel into a [`SourceError::Kernel`] with this
/// action, which follows the words "failed to".
fn refused<E: Into<Refusal>>(action: &'static str) -> impl FnOnce(E) -> SourceError {
    move |error| SourceError::Kernel { action, source: error.into().0 }
}

/// An error of the kernel or of libbpf as an [`io::Error`].
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
        // Only the kinds that callers distinguish are kept, because libbpf_rs::ErrorKind has kinds
        // that io::ErrorKind does not have.
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
