//! The outbox: the task events that containerd has not acknowledged yet, in a queue in a file.
//!
//! Each record consists of a length (4 bytes, little-endian) and as many bytes of content. The file
//! is never fsynced, because it is used only by the shim that created it: it keeps events while
//! containerd is unreachable. The file is truncated whenever all its records are acknowledged, so
//! it rarely has more than a few hundred bytes.
//!
//! If the filesystem refuses a record, for example because it is full, that record and all later
//! ones are kept in memory, up to [`MEMORY_MAX`] bytes. If the memory is full as well, new records
//! are dropped; each loss is counted and logged.

use std::{collections::VecDeque, fs::File, io, os::unix::fs::FileExt as _, path::Path};

use crate::sys::regular_file;

/// The largest size in bytes of all records in memory, which are kept there if the file cannot be
/// written.
const MEMORY_MAX: usize = 1 << 20;

/// The largest size of the file in bytes, about 200 000 events.
const FILE_MAX: u64 = 64 << 20;

/// A queue of records, oldest first.
#[derive(Debug)]
pub(super) struct Outbox {
    /// `None` if the file could not be created. In that case all records are kept in memory.
    file: Option<File>,
    /// Offset of the oldest record in the file.
    head: u64,
    /// Offset at which the next record is written.
    tail: u64,
    /// Number of records between `head` and `tail`.
    in_file: u64,
    /// Records that are newer than all records in the file.
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
    /// Number of records that were lost, because the file could not be written and the memory was
    /// full.
    lost: u64,
}

impl Outbox {
    /// An empty outbox in a new file at `path`. An existing file is truncated.
    pub(super) fn create(path: &Path) -> Self {
        let file = regular_file::create(path);
        if let Err(error) = &file {
            tracing::warn!(
                path = %path.display(),
                %error,
                "failed to create the outbox: task events are kept in memory"
            );
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

    /// Appends a record. The write goes to the page cache. If the filesystem blocks, so does the
    /// caller.
    pub(super) fn append(&mut self, record: &[u8]) {
        // While a record is in memory, newer records must not be written to the file, because they
        // would be sent before it.
        if self.memory.is_empty() {
            match self.append_to_file(record) {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "failed to write the outbox: task events are kept in memory"
                    )
                }
            }
        }
        if self.memory_bytes + record.len() > MEMORY_MAX {
            self.lost += 1;
            tracing::error!(
                lost = self.lost,
                "lost a task event: the outbox cannot be written and the memory for events is full"
            );
            return;
        }
        self.memory_bytes += record.len();
        self.memory.push_back(record.to_vec());
    }

    /// The oldest record; `None` if the outbox is empty.
    ///
    /// # Errors
    ///
    /// An error if the file cannot be read or its content is damaged.
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
                "a record of the outbox is longer than its file",
            ));
        }
        let mut record = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut record, self.head + 4)?;
        Ok(Some(record))
    }

    /// Removes the oldest record, which has `length` bytes.
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

    /// Drops all records in the file. To be called if the file cannot be read. Returns their size
    /// in bytes.
    pub(super) fn skip_file(&mut self) -> u64 {
        let bytes = self.tail - self.head;
        self.empty_file();
        bytes
    }

    /// Whether all records have been acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail && self.memory.is_empty()
    }

    /// The number of records, in the file and in memory.
    pub(super) fn records(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    /// The size of the records in bytes, in the file and in memory.
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
        // If the write fails, `tail` does not change, so the next write overwrites a partial
        // record.
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
