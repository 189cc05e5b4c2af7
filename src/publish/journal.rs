//! What has been told but not yet acknowledged: a queue in a file.
//!
//! Each record is a length, 4 bytes little-endian, and that many bytes. The file is written, never
//! fsynced: it serves a shim that lives on while containerd is away, not one that dies. It is
//! emptied whenever all of it has been acknowledged, so an ordinary shim never has more than a few
//! hundred bytes in it.
//!
//! Where the filesystem refuses a record (it is full), that record and those after it wait in
//! memory, at most [`MEMORY_MAX`] bytes of them; only beyond that is anything lost, and then it is
//! the youngest, counted and logged.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// What may wait in memory when the file cannot be written.
const MEMORY_MAX: usize = 1 << 20;

/// What may wait in the file: some 200 000 events.
const FILE_MAX: u64 = 64 << 20;

/// A queue of records, oldest first.
#[derive(Debug)]
pub(super) struct Journal {
    /// None where it could not be made: then everything waits in memory.
    file: Option<File>,
    /// Where the oldest record that is not acknowledged begins.
    head: u64,
    /// Where the next record goes.
    tail: u64,
    /// Records between the two.
    in_file: u64,
    /// Records younger than all of the file's.
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
    /// Records that found no room anywhere.
    lost: u64,
}

impl Journal {
    /// An empty journal in the file at `path`, which is made anew.
    pub(super) fn create(path: &Path) -> Self {
        let mut open = OpenOptions::new();
        open.read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW);
        let file = open.open(path);
        if let Err(error) = &file {
            tracing::warn!(path = %path.display(), %error, "no journal: unacknowledged events wait in memory");
        }
        Self {
            file: file.ok(),
            head: 0,
            tail: 0,
            in_file: 0,
            memory: VecDeque::new(),
            memory_bytes: 0,
            lost: 0,
        }
    }

    /// Appends a record. Writes to the page cache; a filesystem that stalls stalls the caller.
    pub(super) fn append(&mut self, record: &[u8]) {
        if self.memory.is_empty() {
            match self.append_to_file(record) {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the journal is full: events wait in memory"),
            }
        }
        if self.memory_bytes + record.len() > MEMORY_MAX {
            self.lost += 1;
            tracing::error!(lost = self.lost, "an event was lost: no room to keep it");
            return;
        }
        self.memory_bytes += record.len();
        self.memory.push_back(record.to_vec());
    }

    /// The oldest record.
    pub(super) fn front(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file.as_ref().filter(|_| self.head < self.tail) else {
            return Ok(self.memory.front().cloned());
        };
        let mut length = [0; 4];
        file.read_exact_at(&mut length, self.head)?;
        let length = u64::from(u32::from_le_bytes(length));
        if self.head + 4 + length > self.tail {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record of the journal is longer than the journal",
            ));
        }
        let mut record = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut record, self.head + 4)?;
        Ok(Some(record))
    }

    /// Forgets the oldest record, which has `length` bytes.
    pub(super) fn pop(&mut self, length: usize) {
        if self.head < self.tail {
            self.head += 4 + length as u64;
            self.in_file = self.in_file.saturating_sub(1);
            if self.head >= self.tail {
                self.empty_file();
            }
        } else if let Some(record) = self.memory.pop_front() {
            self.memory_bytes -= record.len();
        }
    }

    /// Gives up what the file holds: it cannot be read. Answers how many bytes that were.
    pub(super) fn skip_file(&mut self) -> u64 {
        let bytes = self.tail - self.head;
        self.empty_file();
        bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail && self.memory.is_empty()
    }

    /// The records that wait.
    pub(super) fn records(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    /// The bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.tail - self.head + self.memory_bytes as u64
    }

    fn append_to_file(&mut self, record: &[u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if self.tail >= FILE_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        let mut framed = Vec::with_capacity(4 + record.len());
        framed.extend_from_slice(&length.to_le_bytes());
        framed.extend_from_slice(record);
        // A write that fails half way leaves `tail` where it was: the next one overwrites it.
        file.write_all_at(&framed, self.tail)?;
        self.tail += framed.len() as u64;
        self.in_file += 1;
        Ok(())
    }

    fn empty_file(&mut self) {
        (self.head, self.tail, self.in_file) = (0, 0, 0);
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests;
