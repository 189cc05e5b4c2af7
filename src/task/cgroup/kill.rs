//! Signals to all processes of a cgroup, without the runtime.

use std::{fs, io, os::fd::OwnedFd};

use nix::{errno::Errno, libc};

use super::{CgroupError, Version, location::Location, location::controller_dir, pids};
use crate::sys::pidfd;

/// The most processes that are signalled with one pair of lists. Each needs a descriptor meanwhile.
const BATCH: usize = 64;

/// Sends `signal` to each process of the cgroup and of all cgroups below it, and thaws a frozen
/// cgroup of version 1 if the signal is SIGKILL. Returns the number of processes that were found; 0
/// if there are none.
///
/// # Errors
///
/// [`CgroupError::Shared`] for a cgroup in which the shim or the init of the system is, because it
/// is not one container's. [`CgroupError::NotFound`] if the cgroup is gone, otherwise the error of
/// reading it.
pub(super) fn signal(
    location: &Location,
    version: Version,
    signal: i32,
) -> Result<usize, CgroupError> {
    let dir = location.procs_dir();
    let members = pids::list(dir)?;
    let own = std::process::id();
    if members.contains(&own) || members.contains(&1) {
        return Err(CgroupError::Shared { path: dir.path().to_owned() });
    }
    if signal == libc::SIGKILL {
        // `cgroup.kill` (Linux 5.14) also reaches processes that are forked meanwhile.
        if version == Version::V2 && fs::write(dir.file("cgroup.kill"), "1").is_ok() {
            return Ok(members.len());
        }
        thaw(location)?;
    }
    for batch in members.chunks(BATCH) {
        let opened: Vec<(u32, OwnedFd)> = batch.iter().filter_map(|&pid| open(pid)).collect();
        // The pid of a process that has ended may belong to a process of another container by now.
        // A pidfd is used only if its pid is in a list that is read after the open.
        let still_members = pids::list(dir)?;
        for (pid, pidfd) in &opened {
            if still_members.binary_search(pid).is_ok() {
                // A process that has ended meanwhile needs no signal.
                let _ = pidfd::send_signal(pidfd, signal);
            }
        }
    }
    Ok(members.len())
}

/// Thaws a cgroup of version 1, in which a frozen process cannot end. On version 2 it can.
///
/// # Errors
///
/// [`CgroupError::Write`] if the state could not be changed.
pub(super) fn thaw(location: &Location) -> Result<(), CgroupError> {
    let Location::V1(hierarchies) = location else { return Ok(()) };
    let Some(dir) = controller_dir(hierarchies, "freezer") else { return Ok(()) };
    let path = dir.file("freezer.state");
    match fs::write(&path, "THAWED") {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CgroupError::Write { path, source })
        }
        _ => Ok(()),
    }
}

fn open(pid: u32) -> Option<(u32, OwnedFd)> {
    let opened = pidfd::open(i32::try_from(pid).ok()?);
    if let Err(error) = &opened
        && error.raw_os_error() != Some(Errno::ESRCH as i32)
    {
        tracing::warn!(pid, %error, "failed to open a process of a container, to signal it");
    }
    Some((pid, opened.ok()?))
}
