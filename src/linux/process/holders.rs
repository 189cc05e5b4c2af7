//! The processes that hold an output open.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use super::{super::read::read, identify};
use crate::model::{FileId, ProcessKey};

/// How many descriptors one call reads, of all processes together. Processes that hold the output
/// by a further descriptor are not found.
const DESCRIPTORS_LIMIT: usize = 65_536;

/// The files that are a process's stdout and stderr now. `None` for a descriptor that is closed,
/// for a process that has already released its files, and for a file on disk or `/dev/null`,
/// because a reader waits for the end only of a pipe, a fifo, a socket or a terminal.
#[must_use]
pub fn outputs(pid: i32) -> [Option<FileId>; 2] {
    [1, 2].map(|number| waitable(&format!("/proc/{pid}/fd/{number}")))
}

/// The processes of `among` that are alive and hold one of `outputs` open, in the order of `among`.
///
/// Every descriptor is compared by device and inode, because a copy under another number holds the
/// output too. The file system is asked (stat(2)) only if the inode number matches, so that this
/// function does not block on an unrelated file system that hangs.
#[must_use]
pub fn holders(outputs: [Option<FileId>; 2], among: &[ProcessKey]) -> Vec<ProcessKey> {
    let mut left = DESCRIPTORS_LIMIT;
    if outputs.iter().all(Option::is_none) {
        return Vec::new();
    }
    // The identity is checked after the descriptors were read, because the pid may have been reused
    // before.
    among
        .iter()
        .copied()
        .filter(|key| holds(*key, outputs, &mut left) && identify(key.pid) == Some(*key))
        .collect()
}

fn holds(key: ProcessKey, outputs: [Option<FileId>; 2], left: &mut usize) -> bool {
    // For a dead process the directory is empty, and for a reaped one it does not exist.
    let Ok(directory) = fs::read_dir(format!("/proc/{}/fd", key.pid)) else { return false };
    for entry in directory.flatten() {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let name = entry.file_name();
        let Some(number) = name.to_str() else { continue };
        if !may_be(key.pid, number, outputs) {
            continue;
        }
        let file = waitable(&format!("/proc/{}/fd/{number}", key.pid));
        if file.is_some() && outputs.contains(&file) {
            return true;
        }
    }
    false
}

/// Whether a descriptor may be one of the outputs. Compares its inode number, the line `ino:` of
/// its fdinfo (Linux 5.14), which the kernel reports without a call of the file system. `true` if
/// there is no such line.
fn may_be(pid: i32, number: &str, outputs: [Option<FileId>; 2]) -> bool {
    let Ok(text) = read(&format!("/proc/{pid}/fdinfo/{number}"), 512) else { return false };
    let inode = text.split(|byte| *byte == b'\n').find_map(|line| {
        str::from_utf8(line.strip_prefix(b"ino:")?).ok()?.trim().parse::<u64>().ok()
    });
    inode.is_none_or(|inode| outputs.iter().flatten().any(|output| output.inode == inode))
}

/// The identity of an open file. `None` for kinds of files at which no reader waits for the end.
fn waitable(descriptor: &str) -> Option<FileId> {
    /// The first and the last major number of pseudo-terminals
    /// (Documentation/admin-guide/devices.txt).
    const TERMINALS: std::ops::RangeInclusive<u64> = 136..=143;
    let file = fs::metadata(descriptor).ok()?;
    let kind = file.file_type();
    let is_terminal =
        kind.is_char_device() && TERMINALS.contains(&nix::sys::stat::major(file.rdev()));
    (kind.is_fifo() || kind.is_socket() || is_terminal)
        .then(|| FileId { device: file.dev(), inode: file.ino() })
}
