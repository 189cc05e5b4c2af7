//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
//!
//! The parser is our own and not that of the crate `procfs`, because `procfs` refuses names that
//! are not UTF-8, and leaves the kernel's escapes in the names. A container with mounts that
//! propagate to the host chooses such names, and must not be able to hide its mounts from the code
//! that unmounts them.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// One mount, borrowed from the text of the file. A node can have thousands of mounts, so they are
/// parsed one at a time and the callers keep only those that they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The id of the mount: unique among the mounts that exist now, and reused after an unmount.
    pub id: u64,
    /// The directory of the file system that is mounted: `/`, or another one for a bind mount.
    pub root: PathBuf,
    /// The directory on which the file system is mounted, below this process's root.
    pub point: PathBuf,
    /// The type of the file system: `cgroup2`.
    pub kind: &'a [u8],
    /// The options of the superblock, separated by commas: for cgroup version 1 the controllers are
    /// among them.
    pub options: &'a [u8],
}

impl Mount<'_> {
    /// Whether the superblock has this option.
    #[must_use]
    pub fn has_option(&self, option: &str) -> bool {
        self.options.split(|byte| *byte == b',').any(|has| has == option.as_bytes())
    }
}

/// The path of the mountinfo file that [`read`] reads: that of the calling thread and not that of
/// the process, because a thread can have a mount namespace of its own.
pub const FILE: &str = "/proc/thread-self/mountinfo";

/// Reads the mountinfo file of the calling thread's mount namespace.
///
/// # Errors
///
/// The error of reading the file.
pub fn read() -> io::Result<Vec<u8>> {
    fs::read(FILE)
}

/// Parses the file: the mounts in the order in which they were mounted. A line that cannot be
/// parsed is skipped, so that one strange mount does not hide the others.
pub fn parse(mountinfo: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(parse_line)
}

/// The mount that is visible at `path`: the deepest one with a mount point at or above `path`. Of
/// several mounts on the same directory, it is the last one, which covers the others.
#[must_use]
pub fn shown_at<'a>(mountinfo: &'a [u8], path: &Path) -> Option<Mount<'a>> {
    let above = parse(mountinfo).enumerate().filter(|(_, mount)| path.starts_with(&mount.point));
    above.max_by_key(|(order, mount)| (mount.point.components().count(), *order)).map(|(_, it)| it)
}

fn parse_line(line: &[u8]) -> Option<Mount<'_>> {
    // The separator between the optional fields, of which there may be any number, and the last
    // three fields. It is the first ` - `: no field before it is a single `-`, but a mount's source
    // may be.
    let separator = line.windows(3).position(|window| window == b" - ")?;
    let mut before = line[..separator].split(|byte| *byte == b' ');
    let id = str::from_utf8(before.next()?).ok()?.parse().ok()?;
    // `nth(2)` skips the parent's id and the device.
    let root = unescape(before.nth(2)?);
    let point = unescape(before.next()?);
    let mut after = line[separator + 3..].split(|byte| *byte == b' ');
    Some(Mount { id, root, point, kind: after.next()?, options: after.nth(1)? })
}

/// Replaces each escape, such as `\040`, by the byte that the three octal digits stand for
/// (`mangle_path`, fs/seq_file.c). A backslash in a name is itself escaped, so all other bytes stay
/// as they are.
fn unescape(name: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        match octal_byte(after).filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The byte that three octal digits stand for. `None` if they are not all digits (the standard
/// parser would accept a sign), and for a value above 255.
fn octal_byte(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    let value = |digit: &u8| (b'0'..=b'7').contains(digit).then(|| u16::from(digit - b'0'));
    let number = digits.iter().try_fold(0, |number, digit| Some(number * 8 + value(digit)?))?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests;
