//! Unmounting: everything at or below a path, until nothing is left.
//!
//! Mount points come from `mountinfo` (proc_pid_mountinfo(5)), field by field here: they may
//! hold any byte, octally escaped, and what the other forty fields say does not matter.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use super::MountError;

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
    Ok(parse(&fs::read("/proc/thread-self/mountinfo")?, root))
}

pub(super) fn parse(mountinfo: &[u8], root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let point = unescape(fields.nth(3)?);
            point.starts_with(root).then_some((id, point))
        })
        .collect();
    // Ids grow, but are taken again when free: a child may have a smaller one than its parent, so
    // the deeper goes first.
    found.sort_by_key(|(id, point)| (point.as_os_str().as_bytes().len(), *id));
    found.into_iter().rev().map(|(_, point)| point).collect()
}

/// `\040` and the like (`mangle`, `fs/proc_namespace.c`).
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = after
            .get(..3)
            .filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits {
            Some(digits) if *first == b'\\' => {
                let value =
                    digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                out.push(u8::try_from(value).unwrap_or(b'?'));
                rest = &after[3..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}
