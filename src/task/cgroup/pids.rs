//! The member processes of a cgroup.

use std::{collections::BTreeSet, fs, io};

use nix::errno::Errno;

use super::{CgroupError, dir::Dir, error::is_gone, file_format};

/// The processes of `dir` and of all cgroups below it.
///
/// # Errors
///
/// [`CgroupError::NotFound`] if `dir` is gone, [`CgroupError::Read`] if a directory or file cannot
/// be read.
pub(super) fn list(dir: &Dir) -> Result<Vec<u32>, CgroupError> {
    let failed = |error| CgroupError::read(dir.path(), error);
    // A set, because a process that is moved meanwhile may be listed more than once
    // (cgroup-v2.rst).
    let mut pids = BTreeSet::new();
    for visited in dir.tree(usize::MAX) {
        let visited = visited.map_err(failed)?;
        match fs::read(visited.file("cgroup.procs")) {
            Ok(content) => pids.extend(parse(&content)),
            // The container may remove a nested cgroup at any time.
            Err(error) if is_gone(&error) && visited != *dir => {}
            // A threaded cgroup has no list of processes: its processes are in the list of the
            // domain cgroup above it (`cgroup_procs_start`, Linux 4.14).
            Err(error) if is_threaded(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(pids.into_iter().collect())
}

/// One pid on each line; 0 stands for a process outside of the shim's pid namespace.
pub(super) fn parse(content: &[u8]) -> impl Iterator<Item = u32> {
    file_format::lines(content).filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0)
}

fn is_threaded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32)
}

#[cfg(test)]
mod tests;
