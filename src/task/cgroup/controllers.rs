//! The controllers that a cgroup of version 2 has.
//!
//! A cgroup has a controller if its parent enables it for its children (`cgroup.subtree_control`),
//! and so on up to the root. Only a cgroup that has no processes itself may enable one ("no
//! internal processes", cgroup-v2.rst; the root is exempt). So this concerns the ancestors alone:
//! the container's own `cgroup.subtree_control` is for whoever makes cgroups in the container.
//!
//! The Go shim writes every controller to every ancestor at each start. runc (`CreateCgroupPath`)
//! and crun have done that before, so it is a no-op nearly always, yet one that takes the kernel's
//! `cgroup_mutex` for each ancestor. Here a controller is written only if the container lacks it:
//! that is left for systemd, which withdraws what no unit asked for when it reloads, and for other
//! runtimes. Without `memory` an OOM kill could not be told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CgroupError, content, dir::Dir};

/// Enables in each ancestor of `dir`, from `mount` down, what the cgroup at `mount` has and `dir`
/// lacks.
///
/// # Errors
///
/// [`CgroupError::NotFound`] if the cgroup is gone; else the first write that was refused
/// (`EBUSY`: an ancestor has processes of its own; `ENOENT`: an ancestor lacks the controller).
pub(super) fn enable(dir: &Dir, mount: &Path) -> Result<(), CgroupError> {
    let has = controllers(dir.path())?;
    let mut first_refusal = Ok(());
    for lacking in controllers(mount)?.iter().filter(|controller| !has.contains(controller)) {
        for ancestor in ancestors(dir.path(), mount) {
            let path = ancestor.join("cgroup.subtree_control");
            // One at a time: of several in one write, one that is refused takes the others along.
            if let Err(source) = fs::write(&path, format!("+{lacking}")) {
                if first_refusal.is_ok() {
                    first_refusal = Err(CgroupError::Write { path, source });
                }
                break;
            }
        }
    }
    first_refusal
}

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
