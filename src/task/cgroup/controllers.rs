//! The controllers of a cgroup of version 2.
//!
//! A cgroup has a controller if every ancestor, up to the root, enables the controller for its
//! children (`cgroup.subtree_control`). Only a cgroup without processes of its own may enable one
//! ("no internal processes", cgroup-v2.rst; the root is exempt). So this module writes to the
//! ancestors only: the container's own `cgroup.subtree_control` belongs to the programs that create
//! cgroups in the container.
//!
//! The Go shim writes every controller to every ancestor at each start. runc (`CreateCgroupPath`)
//! and crun have already enabled them, so these writes almost never change anything, yet each takes
//! the kernel's `cgroup_mutex`. This module enables a controller only if the container lacks it. A
//! container can lack controllers because systemd disables on a reload those that no unit has
//! requested, and because other runtimes do not enable all. Without `memory`, the shim could not
//! report OOM kills.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CgroupError, dir::Dir, file_format};

/// Enables the controllers that the cgroup at `mount` has and `dir` lacks, in each ancestor of
/// `dir` from `mount` down.
///
/// # Errors
///
/// [`CgroupError::NotFound`] if the cgroup is gone, otherwise the error of the first failed write
/// (`EBUSY`: an ancestor has processes of its own; `ENOENT`: an ancestor lacks the controller).
pub(super) fn enable(dir: &Dir, mount: &Path) -> Result<(), CgroupError> {
    let present = controllers(dir.path())?;
    let mut first_refusal = Ok(());
    for missing in controllers(mount)?.iter().filter(|controller| !present.contains(controller)) {
        for ancestor in ancestors(dir.path(), mount) {
            let path = ancestor.join("cgroup.subtree_control");
            // Each write enables one controller: if the kernel refuses one of several, it applies
            // none of them.
            if let Err(source) = fs::write(&path, format!("+{missing}")) {
                if first_refusal.is_ok() {
                    first_refusal = Err(CgroupError::Write { path, source });
                }
                // The descendants cannot enable what this ancestor has not enabled.
                break;
            }
        }
    }
    first_refusal
}

/// The controllers that are available in a cgroup.
fn controllers(cgroup: &Path) -> Result<Vec<String>, CgroupError> {
    let path = cgroup.join("cgroup.controllers");
    let content = fs::read(&path).map_err(|error| CgroupError::read(&path, error))?;
    Ok(file_format::lines(&content)
        .flat_map(str::split_ascii_whitespace)
        .map(str::to_owned)
        .collect())
}

/// The directories from `mount` down to the parent of `dir`.
fn ancestors(dir: &Path, mount: &Path) -> Vec<PathBuf> {
    let mut above: Vec<_> = dir
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(mount))
        .map(Path::to_owned)
        .collect();
    above.reverse();
    above
}

#[cfg(test)]
mod tests;
