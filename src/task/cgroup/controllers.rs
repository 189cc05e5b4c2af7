//! The controllers of a cgroup of version 2.
//!
//! A cgroup has a controller if its parent enables it for its children (`cgroup.subtree_control`),
//! and so on up to the root. Only a cgroup without processes of its own may enable one ("no
//! internal processes", cgroup-v2.rst; the root is exempt). So this concerns the ancestors alone:
//! the container's own `cgroup.subtree_control` belongs to the programs that create cgroups in the
//! container.
//!
//! The Go shim writes every controller to every ancestor at each start. runc (`CreateCgroupPath`)
//! and crun have done that before, so the writes almost never change anything, yet each takes the
//! kernel's `cgroup_mutex`. Here a controller is written only if the container lacks it. That
//! happens with systemd, which on a reload withdraws controllers that no unit asked for, and with
//! other runtimes. Without `memory`, OOM kills could not be reported.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CgroupError, content, dir::Dir};

/// Enables the controllers that the cgroup at `mount` has and `dir` lacks, in each ancestor of
/// `dir` from `mount` down.
///
/// # Errors
///
/// [`CgroupError::NotFound`] if the cgroup is gone, otherwise the first write that was refused
/// (`EBUSY`: an ancestor has processes of its own; `ENOENT`: an ancestor lacks the controller).
pub(super) fn enable(dir: &Dir, mount: &Path) -> Result<(), CgroupError> {
    let present = controllers(dir.path())?;
    let mut first_refusal = Ok(());
    for missing in controllers(mount)?.iter().filter(|controller| !present.contains(controller)) {
        for ancestor in ancestors(dir.path(), mount) {
            let path = ancestor.join("cgroup.subtree_control");
            // One controller per write: if one of several is refused, the kernel applies none of
            // them.
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
    Ok(content::lines(&content).flat_map(str::split_ascii_whitespace).map(str::to_owned).collect())
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
