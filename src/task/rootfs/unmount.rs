//! Unmounts everything at or below a path.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use super::MountError;
use crate::linux::mountinfo;

/// The number of times that unmounting a busy mount is retried before it is detached.
const BUSY_TRIES: u32 = 10;
/// The time between two attempts to unmount a busy mount.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The largest number of iterations over all mounts. Without this limit, the loop would not end if
/// a process creates mounts as fast as they are unmounted.
const ROUNDS_MAX: u32 = 1000;

/// Unmounts all mounts at `root` or below, the deepest first. Follows no symbolic link at a mount
/// point. A mount that is still busy after 200 ms is detached: the kernel unmounts it when it is no
/// longer used. It is not an error if there is no mount, or if `root` does not exist. Blocks.
///
/// # Errors
///
/// [`MountError::Unmount`] if a mount cannot even be detached. All other mounts were unmounted.
/// [`MountError::List`] if the list of mounts cannot be read.
pub fn unmount_recursive(root: &Path) -> Result<(), MountError> {
    let root = match fs::canonicalize(root) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // stat(2) on a dead FUSE or network mount fails, but it can be unmounted by its path.
        Err(_) => root.to_owned(),
    };
    let mut tries = 0;
    let mut failure = None;
    for _ in 0..ROUNDS_MAX {
        let points = mount_points(&root).map_err(MountError::List)?;
        if points.is_empty() {
            return Ok(());
        }
        let flags = match tries < BUSY_TRIES {
            true => MntFlags::UMOUNT_NOFOLLOW,
            false => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
        };
        let mut progress = false;
        for target in points {
            match umount2(&target, flags) {
                Ok(()) => progress = true,
                Err(errno) => failure = Some((target, errno)),
            }
        }
        match (progress, &failure) {
            // A mount that was hidden by another one may be visible now.
            (true, _) => {}
            (false, Some((_, Errno::EBUSY))) if tries < BUSY_TRIES => {
                tries += 1;
                thread::sleep(BUSY_PAUSE);
            }
            // Waiting does not help after an error other than EBUSY, but detaching may succeed.
            (false, _) if tries < BUSY_TRIES => tries = BUSY_TRIES,
            (false, _) => break,
        }
    }
    match failure {
        Some((target, errno)) => Err(MountError::Unmount { target, source: errno.into() }),
        None => Ok(()),
    }
}

/// The mount points at or below `root`, in the order in which they are to be unmounted. A directory
/// with several mounts is listed several times.
fn mount_points(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(points_below(&mountinfo::read()?, root))
}

/// The same as [`mount_points`], from the text of a mountinfo file.
pub(super) fn points_below(mountinfo: &[u8], root: &Path) -> Vec<PathBuf> {
    let mounts = mountinfo::parse(mountinfo).filter(|mount| mount.point.starts_with(root));
    let mut found: Vec<(u64, PathBuf)> = mounts.map(|mount| (mount.id, mount.point)).collect();
    // Mount ids are reused after an unmount, so a child may have a smaller id than its parent. So
    // the mounts are ordered by the length of their paths, and by id only if the lengths are equal.
    found.sort_by_key(|(id, point)| (point.as_os_str().as_bytes().len(), *id));
    found.into_iter().rev().map(|(_, point)| point).collect()
}
