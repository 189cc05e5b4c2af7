//! Searches for the processes that have a file open, such as the output of an exited process.

use std::{collections::HashSet, fs, path::Path, time::Instant};

use nix::libc;

use super::{super::read::read, identify};
use crate::{
    model::{FileId, ProcessKey},
    sys::file::{Attributes, attributes},
};

/// How many descriptors one search reads, of all processes together. Processes that hold a file by
/// a further descriptor are not found.
const DESCRIPTORS_LIMIT: usize = 262_144;

/// How many descriptors are read before the clock is read again. Reading them takes some 50 µs.
const DESCRIPTORS_PER_CLOCK_READ: usize = 32;

/// The files that are a process's stdout and stderr now. `None` for a descriptor that is closed,
/// for a process that has already released its files, and for a file on disk or `/dev/null`,
/// because a reader waits for the end only of a pipe, a fifo, a socket or a terminal.
#[must_use]
pub fn outputs(pid: i32) -> [Option<FileId>; 2] {
    [1, 2].map(|number| waitable_file(&format!("/proc/{pid}/fd/{number}")))
}

/// A search for the processes that hold one of several files open.
///
/// Every descriptor is compared by device and inode, because a duplicate under another number keeps
/// the file open too. A process may have very many descriptors, so the search can be interrupted:
/// otherwise a container could occupy the thread for as long as it likes.
#[derive(Debug)]
pub struct HolderSearch {
    files: HashSet<FileId>,
    /// The processes that have not been examined.
    left: Vec<ProcessKey>,
    current: Option<CurrentProcess>,
    descriptors_left: usize,
    holders: Vec<(ProcessKey, FileId)>,
}

/// The process that is being examined.
#[derive(Debug)]
struct CurrentProcess {
    key: ProcessKey,
    descriptors: fs::ReadDir,
    holders: HashSet<FileId>,
}

impl HolderSearch {
    /// A search for the processes of `among` that hold one of `files`.
    #[must_use]
    pub fn new(files: HashSet<FileId>, among: Vec<ProcessKey>) -> Self {
        let (left, current, holders) = (among, None, Vec::new());
        Self { files, left, current, descriptors_left: DESCRIPTORS_LIMIT, holders }
    }

    /// Continues the search until the time `until`, but always reads at least a few descriptors.
    /// Returns whether the search is complete.
    pub fn advance(&mut self, until: Instant) -> bool {
        loop {
            if self.current.is_none() && !self.next_process() {
                return true;
            }
            self.read_descriptors();
            if Instant::now() >= until {
                return false;
            }
        }
    }

    /// The holders that were found: each living process with each of the files that it has open.
    #[must_use]
    pub fn into_holders(self) -> Vec<(ProcessKey, FileId)> {
        self.holders
    }

    /// Begins to read the descriptors of the next process. Returns `false` if there is none.
    fn next_process(&mut self) -> bool {
        while let Some(key) = self.left.pop().filter(|_| self.descriptors_left > 0) {
            // For a dead process the directory is empty, and for a reaped one it does not exist.
            if let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", key.pid)) {
                self.current = Some(CurrentProcess { key, descriptors, holders: HashSet::new() });
                return true;
            }
        }
        false
    }

    /// Reads some descriptors of the current process.
    fn read_descriptors(&mut self) {
        let Some(current) = &mut self.current else { return };
        for _ in 0..DESCRIPTORS_PER_CLOCK_READ.min(self.descriptors_left) {
            let Some(Ok(entry)) = current.descriptors.next() else {
                self.descriptors_left = self.descriptors_left.saturating_sub(1);
                return self.end_process();
            };
            self.descriptors_left -= 1;
            if let Some(file) = file_of_descriptor(current.key.pid, &entry, &self.files) {
                current.holders.insert(file);
            }
        }
        if self.descriptors_left == 0 {
            self.end_process();
        }
    }

    /// Keeps what was found of the current process, if it is still the same process.
    fn end_process(&mut self) {
        // The identity is checked after the descriptors were read, because the pid may have been
        // reused before.
        if let Some(CurrentProcess { key, holders, .. }) = self.current.take()
            && !holders.is_empty()
            && identify(key.pid) == Some(key)
        {
            self.holders.extend(holders.into_iter().map(|file| (key, file)));
        }
    }
}

/// The file among `files` that a descriptor of a process refers to; `None` if it refers to none of
/// them.
fn file_of_descriptor(pid: i32, entry: &fs::DirEntry, files: &HashSet<FileId>) -> Option<FileId> {
    let name = entry.file_name();
    let number = name.to_str()?;
    if !may_be_one_of(pid, number, files) {
        return None;
    }
    waitable_file(&format!("/proc/{pid}/fd/{number}")).filter(|file| files.contains(file))
}

/// Whether a descriptor may refer to one of `files`. Compares the inode number of its file, the
/// line `ino:` of its fdinfo (Linux 5.14), which the kernel reports without a call of the file
/// system. `true` if there is no such line.
fn may_be_one_of(pid: i32, number: &str, files: &HashSet<FileId>) -> bool {
    let Ok(text) = read(&format!("/proc/{pid}/fdinfo/{number}"), 512) else { return false };
    inode_of_fdinfo(&text).is_none_or(|inode| files.iter().any(|file| file.inode == inode))
}

/// The inode number of the file that a fdinfo is about; `None` if it has no line `ino:`.
pub(super) fn inode_of_fdinfo(text: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| str::from_utf8(line.strip_prefix(b"ino:")?).ok()?.trim().parse().ok())
}

/// The identity of the file of a descriptor. `None` for kinds of files that have no reader which
/// waits for their end. Asks no server of a file system, because a container can have one that does
/// not answer.
fn waitable_file(descriptor: &str) -> Option<FileId> {
    /// The first and the last major number of pseudo-terminals
    /// (Documentation/admin-guide/devices.txt).
    const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;
    let Attributes { kind, device_major, device, inode, .. } =
        attributes(Path::new(descriptor)).ok()?;
    let is_terminal = kind == libc::S_IFCHR && TERMINALS.contains(&device_major);
    (kind == libc::S_IFIFO || kind == libc::S_IFSOCK || is_terminal)
        .then_some(FileId { device, inode })
}
