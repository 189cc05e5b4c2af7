//! The outbox: the task events that containerd has not acknowledged yet, in a queue.
//!
//! A new record is in memory. While containerd does not acknowledge records, or does so slowly, all
//! of them are moved to a file, so that the memory is bounded however long that lasts. The file may
//! be on a disk that hangs, so this type never writes to it: it hands out a [`FileJob`], one at a
//! time, which a caller runs where it may block. Until a job has ended, its records stay in memory.
//!
//! Each record in the file consists of a length (4 bytes, little-endian) and as many bytes of
//! content. The file is never fsynced, because it is used only by the shim that created it. It is
//! truncated whenever all its records are acknowledged.
//!
//! If the filesystem refuses records, for example because it is full, they and all later ones stay
//! in memory until that is empty. Memory has at most [`MEMORY_MAX`] bytes: new records beyond that
//! are dropped; each loss is counted and logged.

use std::{collections::VecDeque, fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use crate::sys::regular_file;

/// The largest size in bytes of all records in memory.
const MEMORY_MAX: usize = 1 << 20;

/// The largest size of the file in bytes, about 200 000 events.
const FILE_MAX: u64 = 64 << 20;

/// A queue of records, oldest first.
#[derive(Debug)]
pub(super) struct Outbox {
    /// `None` if the file could not be created. In that case all records are kept in memory.
    file: Option<Arc<File>>,
    /// Offset of the oldest record in the file.
    head: u64,
    /// Offset at which the next record is written.
    tail: u64,
    /// Number of records between `head` and `tail`.
    in_file: u64,
    /// Records that are newer than all records in the file.
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
    /// Whether records shall be moved to the file: from a failed or slow delivery until the outbox
    /// is empty.
    to_file: bool,
    /// Whether the file has refused records that are still in memory.
    refused: bool,
    /// Whether the file has only acknowledged records and must be truncated.
    stale: bool,
    /// Whether a job of the file has not ended.
    busy: bool,
    /// Whether a record that the job in progress writes was acknowledged meanwhile.
    outdated: bool,
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
        Self { file: file.ok().map(Arc::new), ..Self::in_memory() }
    }

    /// An empty outbox without a file.
    fn in_memory() -> Self {
        Self {
            file: None,
            head: 0,
            tail: 0,
            in_file: 0,
            memory: VecDeque::new(),
            memory_bytes: 0,
            to_file: false,
            refused: false,
            stale: false,
            busy: false,
            outdated: false,
            lost: 0,
        }
    }

    /// Appends a record.
    pub(super) fn append(&mut self, record: &[u8]) {
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
        // containerd acknowledges them more slowly than they come.
        self.to_file |= self.memory_bytes > MEMORY_MAX / 16;
    }

    /// Where the oldest record is; `None` if the outbox is empty.
    pub(super) fn front(&self) -> Option<Front> {
        match &self.file {
            Some(file) if self.head < self.tail => {
                Some(Front::InFile { file: file.clone(), head: self.head, tail: self.tail })
            }
            _ => self.memory.front().cloned().map(Front::InMemory),
        }
    }

    /// From now on, until the outbox is empty, records are moved to the file.
    pub(super) fn use_file(&mut self) {
        self.to_file = true;
    }

    /// What is to be done with the file now; `None` if nothing is, or if the last job has not
    /// [`ended`](Self::ended).
    pub(super) fn next_job(&mut self) -> Option<FileJob> {
        let file = self.file.as_ref().filter(|_| !self.busy)?.clone();
        if self.stale {
            self.busy = true;
            return Some(FileJob { file, write: None });
        }
        let fits = self.tail + (self.memory_bytes as u64) < FILE_MAX;
        if !self.to_file || self.refused || self.memory.is_empty() || !fits {
            return None;
        }
        let mut framed = Vec::with_capacity(self.memory_bytes + 4 * self.memory.len());
        for record in &self.memory {
            // A record is far smaller than 4 GiB: memory is.
            let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
            framed.extend_from_slice(&length.to_le_bytes());
            framed.extend_from_slice(record);
        }
        (self.busy, self.outdated) = (true, false);
        Some(FileJob { file, write: Some((self.tail, framed, self.memory.len())) })
    }

    /// Takes over the result of a job.
    pub(super) fn ended(&mut self, job: &FileJob, result: io::Result<()>) {
        self.busy = false;
        match (&job.write, result) {
            (None, _) => self.stale = false,
            (Some((_, framed, count)), Ok(())) if !self.outdated => {
                for record in self.memory.drain(..count) {
                    self.memory_bytes -= record.len();
                }
                self.tail += framed.len() as u64;
                self.in_file += *count as u64;
            }
            // `tail` has not changed, so the next job overwrites what was written.
            (Some(_), Ok(())) => self.stale = self.tail == 0,
            (Some(_), Err(error)) => {
                (self.refused, self.stale) = (true, self.tail == 0);
                tracing::warn!(
                    %error,
                    "failed to write the outbox: task events are kept in memory"
                );
            }
        }
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
            self.outdated = true;
        }
        if self.is_empty() {
            (self.to_file, self.refused) = (false, false);
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
        // Without the lengths in the file.
        let in_file = (self.tail - self.head).saturating_sub(4 * self.in_file);
        in_file + self.memory_bytes as u64
    }

    fn empty_file(&mut self) {
        (self.head, self.tail, self.in_file) = (0, 0, 0);
        // A job in progress would write behind the old end.
        (self.stale, self.outdated) = (true, true);
    }
}

/// The oldest record.
#[derive(Debug)]
pub(super) enum Front {
    InMemory(Vec<u8>),
    InFile { file: Arc<File>, head: u64, tail: u64 },
}

impl Front {
    /// Its content. Blocks on the filesystem if it is in the file.
    ///
    /// # Errors
    ///
    /// An error if the file cannot be read or its content is damaged.
    pub(super) fn read(self) -> io::Result<Vec<u8>> {
        let (file, head, tail) = match self {
            Self::InMemory(record) => return Ok(record),
            Self::InFile { file, head, tail } => (file, head, tail),
        };
        let mut length = [0; 4];
        file.read_exact_at(&mut length, head)?;
        let length = u64::from(u32::from_le_bytes(length));
        if head + 4 + length > tail {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record of the outbox is longer than its file",
            ));
        }
        let mut record = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut record, head + 4)?;
        Ok(record)
    }
}

/// Something to be done with the file.
#[derive(Debug)]
pub(super) struct FileJob {
    file: Arc<File>,
    /// Where to write what, and how many records that is; `None` to truncate the file.
    write: Option<(u64, Vec<u8>, usize)>,
}

impl FileJob {
    /// Does it. Blocks on the filesystem.
    ///
    /// # Errors
    ///
    /// The error of the write.
    pub(super) fn run(&self) -> io::Result<()> {
        match &self.write {
            Some((at, framed, _)) => self.file.write_all_at(framed, *at),
            None => self.file.set_len(0),
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use std::{collections::VecDeque, fs::File, os::unix::fs::FileExt as _, sync::Arc};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::{FILE_MAX, FileJob, MEMORY_MAX, Outbox};

    /// Appends, sends and damages records as the bytes say, and compares the outbox with a queue.
    pub(crate) fn journal(bytes: &[u8]) {
        let file: File = memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).expect("Linux has it").into();
        let mut outbox = Outbox { file: Some(Arc::new(file)), ..Outbox::in_memory() };
        let mut model = VecDeque::new();
        let mut job = None;
        let mut rest = bytes;
        while let Some((step, after)) = rest.split_first() {
            rest = after;
            match step {
                b'a' => {
                    let length = usize::from(rest.first().copied().unwrap_or_default());
                    let (record, after) = rest.split_at(length.min(rest.len()));
                    (rest, _) = (after, outbox.append(record));
                    model.push_back(record.to_vec());
                }
                b's' => {
                    let front =
                        outbox.front().map(|front| front.read().expect("the file is not damaged"));
                    assert_eq!(front, model.pop_front());
                    if let Some(record) = front {
                        outbox.pop(record.len());
                    }
                }
                b'u' => outbox.use_file(),
                // Records come and are sent while a job runs.
                b'j' => {
                    job = match job.take() {
                        None => outbox.next_job(),
                        Some(job) => end(&mut outbox, &job),
                    }
                }
                // As if the disk were full: later records stay in memory.
                b'f' => outbox.tail = outbox.tail.max(FILE_MAX * u64::from(outbox.head == 0)),
                b'd' => return damaged(outbox, rest),
                _ => {}
            }
            if outbox.tail >= FILE_MAX {
                return full(outbox, rest);
            }
            assert_eq!(outbox.records(), model.len() as u64);
            assert_eq!(outbox.is_empty(), model.is_empty());
        }
    }

    fn end(outbox: &mut Outbox, job: &FileJob) -> Option<FileJob> {
        outbox.ended(job, job.run());
        None
    }

    /// The file has other bytes than were written: the sender skips it, and nothing else.
    fn damaged(mut outbox: Outbox, bytes: &[u8]) {
        if let Some(file) = &outbox.file {
            file.write_all_at(bytes, outbox.head).expect("it is in memory");
        }
        let in_memory = outbox.memory.len() as u64;
        while outbox.head < outbox.tail {
            match outbox.front().expect("it is not empty").read() {
                Ok(record) => outbox.pop(record.len()),
                Err(_) => drop(outbox.skip_file()),
            }
        }
        assert_eq!(outbox.records(), in_memory);
    }

    /// The file is full, so records are kept in memory, up to a limit.
    fn full(mut outbox: Outbox, bytes: &[u8]) {
        let record = bytes.repeat(1 + (64 << 10) / (bytes.len() + 1));
        let before = outbox.memory.len() as u64;
        outbox.use_file();
        for _ in 0..20 {
            outbox.append(&record);
            assert!(outbox.next_job().is_none_or(|job| job.write.is_none()));
        }
        assert!(outbox.memory_bytes <= MEMORY_MAX);
        assert_eq!(outbox.memory.len() as u64 - before + outbox.lost, 20);
        outbox.skip_file();
        while let Some(front) = outbox.front() {
            let record = front.read().expect("it is in memory");
            outbox.pop(record.len());
        }
        assert!(outbox.is_empty() && outbox.waiting() == 0);
    }
}

#[cfg(test)]
mod tests;
