//! Unmounting: everything at or below a path, until nothing is left.
//!
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

/// How often a busy mount is tried again, and how long between; then it is detached.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A bound against somebody who mounts as fast as we unmount.
const ROUNDS: u32 = 1000;

/// Unmounts all that is mounted at `root` or below, the youngest first, and follows no link at a
/// mount point. What stays busy is detached after 200 ms: it goes when its last user does. Nothing
/// mounted, or nothing there, is a success. Blocks.
///
/// # Errors
///
/// [`MountError::Unmount`] of a mount that cannot even be detached, after all others were.
pub fn unmount_recursive(root: &Path) -> Result<(), MountError> {
    let root = match fs::canonicalize(root) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A dead FUSE or network mount cannot be looked at, but it can be unmounted by name.
        Err(_) => root.to_owned(),
    };
    let mut tries = 0;
    let mut failure = None;
    for _ in 0..ROUNDS {
        let points = mount_points(&root).map_err(MountError::List)?;
        if points.is_empty() {
            return Ok(());
        }
        let flags = match tries < TRIES {
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
            // What was hidden below another mount can be reached now.
            (true, _) => {}
            (false, Some((_, Errno::EBUSY))) if tries < TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            (false, _) if tries < TRIES => tries = TRIES,
            (false, _) => break,
        }
    }
    match failure {
        Some((target, errno)) => Err(MountError::Unmount { target, source: errno.into() }),
        None => Ok(()),
    }
}

/// Mount points at or below `root`, the youngest first; one that is mounted over comes as often as
/// it is.
fn mount_points(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(points_below(&mountinfo::read()?, root))
}

pub(super) fn points_below(mountinfo: &[u8], root: &Path) -> Vec<PathBuf> {
    let mounts = mountinfo::parse(mountinfo).filter(|mount| mount.point.starts_with(root));
    let mut found: Vec<(u64, PathBuf)> = mounts.map(|mount| (mount.id, mount.point)).collect();
    // Ids grow, but are used again when free, so a child may have a smaller one than its parent:
    // the deeper goes first.
    found.sort_by_key(|(id, point)| (point.as_os_str().as_bytes().len(), *id));
    found.into_iter().rev().map(|(_, point)| point).collect()
}
