//! Where a container's cgroup is.
//!
//! On the unified hierarchy, mostly, and on a hybrid node too: runc puts every container there,
//! though the controllers are on version 1. Its directory's inode is the id that the kernel's
//! programs know the cgroup by (`kernfs_node.id`). Where there is no unified hierarchy, a directory
//! of version 1 says who is in the container, and the programs know it by its pid namespace alone.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use procfs::process::MountInfo;

use super::record::TargetId;

/// Controllers of version 1, the likeliest first: no option of runc's leaves `devices` out.
const CONTROLLERS: [&str; 4] = ["devices", "freezer", "pids", "memory"];

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its id on the unified hierarchy.
    pub(super) id: Option<TargetId>,
    /// Its directory.
    pub(super) directory: PathBuf,
    /// Its path under the hierarchy's root.
    pub(super) path: String,
}

impl Place {
    /// The cgroup of a living process.
    ///
    /// # Errors
    ///
    /// What reading answered; `NotFound` where the process is in no cgroup but a root, which is
    /// nobody's container.
    pub(super) fn of_process(pid: i32) -> io::Result<Self> {
        let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = mounts()?;
        if let Some((directory, path)) = directory(&mounts, &memberships, "") {
            return Ok(Self { id: Some(id_of(&directory)?), directory, path });
        }
        let mut of_version_1 =
            CONTROLLERS.iter().filter_map(|name| directory(&mounts, &memberships, name));
        let found = of_version_1.find(|(directory, _)| directory.is_dir());
        let (directory, path) =
            found.ok_or_else(|| missing("the process is in no cgroup of its own"))?;
        Ok(Self { id: None, directory, path })
    }
}

/// The directory and the path of the cgroup that a process is in: on the hierarchy of a controller
/// of version 1, or with no name on the unified one.
fn directory(
    mounts: &[MountInfo],
    memberships: &str,
    controller: &str,
) -> Option<(PathBuf, String)> {
    let mut lines = memberships.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (_, path) =
        lines.find(|(controllers, _)| controllers.split(',').any(|name| name == controller))?;
    let below = Path::new(path.trim_start_matches('/'));
    if below.as_os_str().is_empty()
        || below.components().any(|part| !matches!(part, Component::Normal(_)))
    {
        return None;
    }
    let shows = |mount: &&MountInfo| match controller {
        "" => mount.fs_type == "cgroup2",
        name => mount.fs_type == "cgroup" && mount.super_options.contains_key(name),
    };
    let mount = mounts.iter().find(|mount| shows(mount) && mount.root == "/")?;
    Some((mount.mount_point.join(below), path.to_owned()))
}

/// The id of the cgroup at `directory`.
pub(super) fn id_of(directory: &Path) -> io::Result<TargetId> {
    fs::metadata(directory).map(|metadata| TargetId(metadata.ino()))
}

/// The ids of the cgroup at `directory` and of those below it, as far as a container may nest to be
/// followed.
pub(super) fn ids_below(directory: &Path) -> std::collections::HashSet<u64> {
    const DEPTH: usize = 8;
    const MOST: usize = 1024;
    let mut ids: std::collections::HashSet<u64> =
        id_of(directory).into_iter().map(|id| id.0).collect();
    let mut level = vec![directory.to_owned()];
    for _ in 0..DEPTH {
        let entries =
            level.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        level = below.map(|entry| entry.path()).take(MOST - ids.len().min(MOST)).collect();
        ids.extend(level.iter().filter_map(|directory| id_of(directory).ok()).map(|id| id.0));
    }
    ids
}

/// The name of the cgroup `id` below the one at `directory`, as a path under the hierarchy's root.
pub(super) fn name_below(directory: &Path, id: u64) -> Option<String> {
    // Deeper than any manager nests; a container may nest deeper and is not followed there.
    const DEPTH: usize = 8;
    // More than that are not looked at for one name.
    const MOST: usize = 1024;
    let mounts = mounts().ok()?;
    let mount = mounts
        .iter()
        .find(|mount| directory.starts_with(&mount.mount_point) && mount.fs_type == "cgroup2")?;
    let mut level = vec![directory.to_owned()];
    let mut looked = 0;
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for entry in
            level.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten()
        {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            looked += 1;
            if looked > MOST {
                return None;
            }
            if entry.metadata().is_ok_and(|metadata| metadata.ino() == id) {
                let path = entry.path();
                return Some(format!("/{}", path.strip_prefix(&mount.mount_point).ok()?.display()));
            }
            below.push(entry.path());
        }
        level = below;
    }
    None
}

fn mounts() -> io::Result<Vec<MountInfo>> {
    let content = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(content.lines().filter_map(|line| MountInfo::from_line(line).ok()).collect())
}

fn missing(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, what)
}

/// A number that no other process of the node makes of `n`: the maps that know targets are the
/// node's.
pub(super) fn unique(n: u64) -> u64 {
    let pid = u64::from(std::process::id());
    let start = super::proc::identify(pid.cast_signed().try_into().unwrap_or_default())
        .map_or(0, |me| me.start_ticks);
    // 22 bits hold a pid; of the start, what changes while pids come round.
    (start & 0xff_ffff) << 39 | (pid & 0x3f_ffff) << 17 | n & 0x1_ffff
}
