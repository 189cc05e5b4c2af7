//! Moves a process into an existing cgroup: the option `ShimCgroup`.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    thread,
    time::Duration,
};

use nix::errno::Errno;

use super::{
    CgroupError,
    dir::Dir,
    mount::{self, Mount},
};

/// The number of attempts to move a process that was just forked and cannot be moved yet. This and
/// the pause are those of containerd and runc (opencontainers/runc#1950).
const MOVE_TRIES: u32 = 5;
/// The pause between two attempts to move a process.
const MOVE_PAUSE: Duration = Duration::from_millis(30);

/// Moves a process into an existing cgroup. Its future children will be in that cgroup as well.
///
/// `path` is relative to the root of each hierarchy (`/system.slice/shims`). On version 1 the
/// process is moved in every hierarchy that has such a cgroup, as containerd's
/// `cgroup1.Load(StaticPath)` and `AddProc` do; on version 2 it is moved in the unified hierarchy.
/// Waits up to 120 ms for a process that was just forked.
///
/// # Errors
///
/// [`CgroupError::NotFound`] with `path` if no hierarchy has the cgroup. [`CgroupError::Write`]
/// with the kernel's error: `ESRCH` if the process is gone, `ENOSPC` for a cpuset without CPUs. If
/// the move fails in one hierarchy, the moves in earlier hierarchies are not undone.
pub fn join(path: &str, pid: u32) -> Result<(), CgroupError> {
    let mounts = Mount::all()?;
    let version = mount::version(&mounts);
    let points =
        mounts.into_iter().filter(|mount| mount.version == version).map(|mount| mount.point);
    join_below(points, path, pid)
}

fn join_below(
    points: impl Iterator<Item = PathBuf>,
    path: &str,
    pid: u32,
) -> Result<(), CgroupError> {
    let not_found = || CgroupError::NotFound { path: path.into() };
    let below = Path::new(path).strip_prefix("/").unwrap_or(Path::new(path));
    // Refuses the root cgroup and any path that leads out of the mount, because a cgroup for shims
    // can be neither.
    if below == Path::new("")
        || !below.components().all(|component| matches!(component, Component::Normal(_)))
    {
        return Err(not_found());
    }
    let mut joined = false;
    for dir in points.map(|point| Dir::new(point.join(below))).filter(Dir::exists) {
        let procs = dir.file("cgroup.procs");
        write_pid(&procs, pid).map_err(|source| CgroupError::Write { path: procs, source })?;
        joined = true;
    }
    if joined { Ok(()) } else { Err(not_found()) }
}

fn write_pid(procs: &Path, pid: u32) -> io::Result<()> {
    for _ in 1..MOVE_TRIES {
        match fs::write(procs, pid.to_string()) {
            // The kernel's task has not run yet (TASK_NEW, `cpu_cgroup_can_attach`).
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                thread::sleep(MOVE_PAUSE)
            }
            answer => return answer,
        }
    }
    fs::write(procs, pid.to_string())
}

#[cfg(test)]
mod tests;
