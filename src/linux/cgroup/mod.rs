//! Cgroups: the processes of a cgroup, the cgroup of a process, and the directory of a cgroup.
//!
//! The callers decide which controller and which hierarchy they use.

mod location;
mod membership;

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

pub use location::CgroupLocation;
pub use membership::{CgroupPath, Hierarchy, Memberships, Relation};

use super::mountinfo::{self, Mount};

/// How many nested cgroups one scan reads. A container decides how many cgroups it creates, so
/// there must be a bound. A scan does not find the processes of further cgroups.
const NESTED_LIMIT: usize = 4096;

/// The most processes that one scan returns: the default of `kernel.pid_max`. Further processes are
/// left out.
pub(crate) const MEMBERS_LIMIT: usize = 32_768;

/// How many levels of nested cgroups are searched for the ids or the name of cgroups. No cgroup
/// manager nests deeper.
const SEARCH_DEPTH_LIMIT: usize = 8;

/// How many nested cgroups are searched for the ids or the name of cgroups.
const SEARCH_LIMIT: usize = 1024;

/// The id of a cgroup: the inode number of its directory, which the eBPF programs see too
/// (`kernfs_node.id`, include/linux/kernfs.h).
///
/// # Errors
///
/// `ENOENT` if there is no such directory.
pub fn id(directory: &Path) -> io::Result<u64> {
    Ok(fs::metadata(directory)?.ino())
}

/// The pids of the thread groups in a cgroup and in those below it, in no order. The kernel lists a
/// process of a pid namespace that is not visible from this one as 0; such a process is left out.
///
/// # Errors
///
/// `ENOENT` if the cgroup itself does not exist. The removal of a nested cgroup during the scan is
/// no error.
pub fn members(cgroup: &Path) -> io::Result<Vec<i32>> {
    Ok(members_by_cgroup(cgroup)?.into_iter().map(|(pid, _)| pid).collect())
}

/// As [`members`], each pid with the id of the process's cgroup if that is nested in `cgroup`;
/// `None` if the process is in `cgroup` itself.
///
/// # Errors
///
/// As [`members`].
pub fn members_by_cgroup(cgroup: &Path) -> io::Result<Vec<(i32, Option<u64>)>> {
    let mut found = Vec::new();
    read_members(cgroup, None, &mut found)?;
    let mut left = directories(cgroup)?;
    let mut nested = 0;
    while let Some(directory) = left.pop() {
        nested += 1;
        if nested > NESTED_LIMIT || found.len() >= MEMBERS_LIMIT {
            break;
        }
        let Ok(id) = id(&directory) else { continue };
        // A threaded cgroup (cgroups(7)) refuses the list with EOPNOTSUPP: its processes are in the
        // list of the cgroup above.
        let _ = read_members(&directory, Some(id), &mut found);
        left.extend(directories(&directory).unwrap_or_default().into_iter().take(NESTED_LIMIT));
    }
    Ok(found)
}

/// The ids of the cgroup at `directory` and of those below it, as far as `SEARCH_DEPTH_LIMIT` and
/// `SEARCH_LIMIT` allow.
#[must_use]
pub fn ids_below(directory: &Path) -> HashSet<u64> {
    let mut ids: HashSet<u64> = id(directory).into_iter().collect();
    let mut level = vec![directory.to_owned()];
    for _ in 0..SEARCH_DEPTH_LIMIT {
        let below = level.iter().flat_map(|directory| directories(directory).unwrap_or_default());
        level = below.take(SEARCH_LIMIT - ids.len().min(SEARCH_LIMIT)).collect();
        ids.extend(level.iter().filter_map(|directory| id(directory).ok()));
    }
    ids
}

/// The path under the hierarchy's root of the cgroup `wanted`, which is nested in the cgroup at
/// `directory`. `None` if it is not found within `SEARCH_DEPTH_LIMIT` and `SEARCH_LIMIT`.
#[must_use]
pub fn name_below(directory: &Path, wanted: u64) -> Option<String> {
    let mountinfo = mountinfo::read().ok()?;
    let is_its =
        |mount: &Mount<'_>| mount.kind == b"cgroup2" && directory.starts_with(&mount.point);
    let mount = mountinfo::parse(&mountinfo).find(is_its)?;
    let mut level = vec![directory.to_owned()];
    let mut seen = 0;
    for _ in 0..SEARCH_DEPTH_LIMIT {
        let mut below = Vec::new();
        for path in level.iter().flat_map(|directory| directories(directory).unwrap_or_default()) {
            seen += 1;
            if seen > SEARCH_LIMIT {
                return None;
            }
            if id(&path).is_ok_and(|id| id == wanted) {
                return Some(format!("/{}", path.strip_prefix(&mount.point).ok()?.display()));
            }
            below.push(path);
        }
        level = below;
    }
    None
}

/// The directory of a cgroup, given by its path as `/proc/PID/cgroup` reports it, in a mount of its
/// hierarchy that shows the cgroup `root` at the directory `point`.
///
/// `None` for a cgroup outside of this mount, and for the mount's own root: a root cgroup has the
/// processes that were never moved, so it is not the cgroup of a container.
#[must_use]
pub fn directory_in(root: &Path, point: &Path, cgroup: &Path) -> Option<PathBuf> {
    // Both paths are relative to the root of this process's cgroup namespace. The path of a cgroup
    // above that root begins with `/..`. A `..` that remains cannot be resolved in this mount.
    let below = cgroup.strip_prefix(root).ok()?;
    let mut components = below.components().peekable();
    components.peek()?;
    components.all(|component| matches!(component, Component::Normal(_))).then(|| point.join(below))
}

/// Adds the processes of one cgroup, without nested ones, to `found`, each with `id`. Stops at
/// [`MEMBERS_LIMIT`].
fn read_members(
    directory: &Path,
    id: Option<u64>,
    found: &mut Vec<(i32, Option<u64>)>,
) -> io::Result<()> {
    parse_members(&fs::read(directory.join("cgroup.procs"))?, id, found);
    Ok(())
}

/// Adds the pids in a `cgroup.procs` to `found`, as [`read_members`] does.
pub(super) fn parse_members(content: &[u8], id: Option<u64>, found: &mut Vec<(i32, Option<u64>)>) {
    let pids = content
        .split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok()?.parse::<i32>().ok());
    let free = MEMBERS_LIMIT.saturating_sub(found.len());
    found.extend(pids.filter(|pid| *pid > 0).take(free).map(|pid| (pid, id)));
}

/// The directories in a directory.
fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory)? {
        // The list ends early if the cgroup is removed during this loop.
        let Ok(entry) = entry else { break };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}
