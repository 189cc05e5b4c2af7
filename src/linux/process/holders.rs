//! Who holds an output open.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use super::{super::read::read, identify};
use crate::model::{FileId, ProcessKey};

/// How many descriptors one question looks at, over all processes; a holder beyond that is not
/// found.
const DESCRIPTORS_LIMIT: usize = 65_536;

/// What a process's stdout and stderr are now. `None` for one that is closed, for what the process
/// is too dead to tell, and for what has no end to wait for: only a pipe, a fifo, a socket or a
/// terminal keeps a reader waiting; a file on disk and `/dev/null` do not.
#[must_use]
pub fn outputs(pid: i32) -> [Option<FileId>; 2] {
    [1, 2].map(|number| waitable(&format!("/proc/{pid}/fd/{number}")))
}

/// Those of `among` that are alive and hold one of `outputs` open, in the order of `among`.
///
/// Compared by device and inode, on every descriptor: a copy under another number holds it too. A
/// file system is asked only where the inode's number fits, so one that hangs is not waited for by
/// chance.
#[must_use]
pub fn holders(outputs: [Option<FileId>; 2], among: &[ProcessKey]) -> Vec<ProcessKey> {
    let mut left = DESCRIPTORS_LIMIT;
    if outputs.iter().all(Option::is_none) {
        return Vec::new();
    }
    among
        .iter()
        .copied()
        .filter(|key| holds(*key, outputs, &mut left) && identify(key.pid) == Some(*key))
        .collect()
}

fn holds(key: ProcessKey, outputs: [Option<FileId>; 2], left: &mut usize) -> bool {
    // Of a dead process the folder is empty, of a reaped one it is not there.
    let Ok(folder) = fs::read_dir(format!("/proc/{}/fd", key.pid)) else { return false };
    for entry in folder.flatten() {
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

/// Whether a descriptor's inode number is one of those asked for: `ino:` of its fdinfo (Linux
/// 5.14), which the file system is not asked for. Where there is no such line, it may be.
fn may_be(pid: i32, number: &str, outputs: [Option<FileId>; 2]) -> bool {
    let Ok(text) = read(&format!("/proc/{pid}/fdinfo/{number}"), 512) else { return false };
    let inode = text.split(|byte| *byte == b'\n').find_map(|line| {
        str::from_utf8(line.strip_prefix(b"ino:")?).ok()?.trim().parse::<u64>().ok()
    });
    inode.is_none_or(|inode| outputs.iter().flatten().any(|output| output.inode == inode))
}

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
