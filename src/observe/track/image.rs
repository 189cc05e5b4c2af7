//! The image of a process, and a check whether two images are of different execs.

use std::sync::Arc;

use crate::{
    model::{Image, Lineage, Unknown},
    observe::record::Provenance,
};

/// The image of an exec, or of a process that a scan read.
#[derive(Debug, Clone)]
pub(super) struct NewImage {
    pub(super) lineage: Lineage,
    pub(super) image: Arc<Image>,
    /// The id of the process's cgroup; `None` if that is the target's own cgroup.
    pub(super) cgroup: Option<u64>,
    /// Whether the process is in the mount namespace of the shim; `None` where the source does not
    /// know.
    pub(super) in_host_mounts: Option<bool>,
    /// Where the process comes from; `None` for a scan, and where the source does not know.
    pub(super) provenance: Option<Provenance>,
}

/// Whether two images of a process are of different execs.
///
/// A process may overwrite its own arguments and name (`setproctitle`), and what the kernel reports
/// at an exec and what `/proc` shows later need not agree in each part. So a different executable
/// means a different exec. The same executable means a different exec only if both the arguments
/// and the name differ, or if the arguments could not be read: a scan in the middle of an exec
/// reads the new executable and not yet its arguments.
pub(super) fn is_other_exec(one: &Image, other: &Image) -> bool {
    if one.executable.is_none() && one.args.is_none() {
        // The fork of the process was reported after its parent was forgotten, and so without an
        // image.
        return other.executable.is_some() || other.args.is_some();
    }
    if let (Some(one), Some(other)) = (&one.executable, &other.executable)
        && without_deleted_suffix(one) != without_deleted_suffix(other)
    {
        return true;
    }
    if one.args.is_none() && one.unknown == Some(Unknown::Faulted) && other.args.is_some() {
        return true;
    }
    let names = matches!((&one.comm, &other.comm), (Some(one), Some(other)) if one != other);
    let args = match (&one.args, &other.args) {
        (Some(one), Some(other)) => {
            // Either argument list may be cut, so only the common length can be compared.
            let length = one.bytes.len().min(other.bytes.len());
            one.bytes[..length] != other.bytes[..length]
        }
        _ => false,
    };
    names && args
}

/// `/proc/PID/exe` has this suffix where the file is removed.
fn without_deleted_suffix(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}
