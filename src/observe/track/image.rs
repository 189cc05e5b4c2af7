//! The image of a process, and a check whether two images are of different execs.

use std::{num::NonZeroU64, sync::Arc};

use crate::{
    model::{Image, Lineage, UnknownReason},
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

/// Whether an image of a process is of another exec than the one that is kept for it, with the
/// address of its stack.
///
/// A process may overwrite its own arguments and name (setproctitle), so these are no evidence of
/// an exec. The executable is, and where both images have it, the address of the stack. Where one
/// of them lacks it, a second exec of the same file is not seen.
///
/// A scan in the middle of an exec reads the new executable and not yet its arguments: the next
/// scan that reads them counts as another exec.
pub(super) fn is_other_exec(one: &Image, stack: Option<NonZeroU64>, other: &Image) -> bool {
    let is_reduced = one.unknown == Some(UnknownReason::Dropped);
    if one.executable.is_none() && one.args.is_none() && !is_reduced {
        // The fork of the process was reported after its parent was forgotten, and so without an
        // image.
        return other.executable.is_some() || other.args.is_some();
    }
    if let (Some(one), Some(other)) = (&one.executable, &other.executable)
        && one != other
    {
        return true;
    }
    if one.args.is_none() && one.unknown == Some(UnknownReason::Faulted) && other.args.is_some() {
        return true;
    }
    matches!((stack, other.stack), (Some(one), Some(other)) if one != other)
}
