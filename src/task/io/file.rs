//! Output to a file. Writes run on the blocking pool, so that a slow disk delays only one stream.
//!
//! A write error never stops the container. Bytes that cannot be written are dropped, and a warning
//! is logged once a minute at most. In containerd issue 12462, an error ended the copying and the
//! container hung.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{io::unix::AsyncFdReadyGuard, task::spawn_blocking, time::Instant};
use tracing::warn;

use super::flow::{self, Step};

/// The size in bytes of the buffer for one read and write. The buffer is allocated only while there
/// is output.
const CHUNK_SIZE: usize = 64 << 10;

/// Shortest interval between two warnings about one file.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A file that receives one stream. Two streams may share the open file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: PathBuf,
    /// The read buffer. Empty while the source has no bytes.
    chunk: Vec<u8>,
    /// The number of bytes that were dropped since the last warning.
    dropped: usize,
    /// The time of the last warning.
    warned: Option<Instant>,
}

impl LogFile {
    /// Wraps an open file; `path` is for log messages only.
    pub(super) fn new(file: Arc<File>, path: &Path) -> LogFile {
        LogFile { file, path: path.to_owned(), chunk: Vec::new(), dropped: 0, warned: None }
    }

    /// A [`LogFile`] for another stream, with the same open file. Each stream counts its own
    /// dropped bytes.
    pub(super) fn share(&self) -> LogFile {
        LogFile::new(Arc::clone(&self.file), &self.path)
    }

    /// Moves the bytes that are in the source, at most `max` and at most one chunk. Not cancel
    /// safe: a chunk that was read may be lost.
    pub(super) async fn transfer(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        max: usize,
    ) -> io::Result<Step> {
        self.chunk.resize(CHUNK_SIZE.min(max), 0);
        let step = flow::read(from, &mut self.chunk)?;
        match step {
            Step::Moved(count) => {
                let mut chunk = std::mem::take(&mut self.chunk);
                chunk.truncate(count);
                self.chunk = self.write(chunk).await;
            }
            Step::Dry | Step::End => self.chunk = Vec::new(),
        }
        Ok(step)
    }

    /// Writes `chunk`, drops the bytes that cannot be written, and returns the buffer.
    pub(super) async fn write(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        let file = Arc::clone(&self.file);
        let written = spawn_blocking(move || {
            // write_all continues after a partial write and after an interruption.
            let result = (&*file).write_all(&chunk);
            (chunk, result)
        });
        match written.await {
            Ok((chunk, Ok(()))) => chunk,
            Ok((chunk, Err(error))) => {
                self.dropped += chunk.len();
                self.warn_rate_limited(&error);
                chunk
            }
            // The blocking pool is shutting down, because the shim exits.
            Err(_) => Vec::new(),
        }
    }

    fn warn_rate_limited(&mut self, error: &io::Error) {
        if self.warned.is_some_and(|when| when.elapsed() < WARN_INTERVAL) {
            return;
        }
        let dropped_bytes = self.dropped;
        warn!(
            path = %self.path.display(),
            %error,
            dropped_bytes,
            "dropped output of a process: failed to write it to the file"
        );
        self.warned = Some(Instant::now());
        self.dropped = 0;
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // Without this warning, the bytes that were dropped since the last warning would not be
        // reported.
        if self.dropped > 0 {
            warn!(
                path = %self.path.display(),
                dropped_bytes = self.dropped,
                "dropped output of a process: failed to write it to the file"
            );
        }
    }
}

/// Opens a file to append to. With `create`, creates the file and its directories if they are
/// missing, with the modes that containerd's own shim gives them.
pub(super) fn open_output(path: &Path, create: bool) -> io::Result<File> {
    if let (true, Some(directory)) = (create, path.parent()) {
        std::fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(create).mode(0o644);
    // O_NONBLOCK: a fifo that has replaced the file must not block the open. O_NOCTTY: a terminal
    // must not become the controlling terminal of the shim.
    blocking(options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?)
}

/// Opens a file or a device to read the input of a process from.
pub(super) fn open_input(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // The flags are those of `open_output`, for the same reasons.
    blocking(options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?)
}

/// Makes a file that was opened with `O_NONBLOCK` blocking, for use on the blocking pool. Refuses a
/// fifo that has replaced the file since it was checked, because a fifo could block a thread of
/// that pool without end.
fn blocking(file: File) -> io::Result<File> {
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has become a fifo"));
    }
    flow::set_nonblocking(&file, false)?;
    Ok(file)
}
