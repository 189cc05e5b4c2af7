//! Output to a file. Writes run on [`workers`], so that a slow disk delays only one stream.
//!
//! A write error never stops the container. What cannot be written is kept, at most
//! [`UNWRITTEN_MAX`] bytes, and tried again; the bytes after that are dropped and counted. A
//! warning is logged once a minute at most. In containerd issue 12462, an error ended the copying
//! and the container hung.

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

use tokio::{
    io::unix::AsyncFdReadyGuard,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    fifo::LINGER,
    flow::{self, Step},
};
use crate::workers::{self, Work};

/// The size in bytes of the buffer for one read and write. The buffer is allocated only while there
/// is output.
const CHUNK_SIZE: usize = 64 << 10;

/// The most bytes of one stream that are kept while the file cannot be written, for example because
/// the disk is full.
const UNWRITTEN_MAX: usize = 256 << 10;

/// The pause before an attempt to write what was kept.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Shortest interval between two warnings about one file.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A file that receives one stream. Two streams may share the open file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: PathBuf,
    /// The read buffer. Empty while the source has no bytes.
    chunk: Vec<u8>,
    /// What could not be written yet, at most [`UNWRITTEN_MAX`] bytes.
    unwritten: Vec<u8>,
    /// The number of bytes that were dropped since the last log message about that.
    dropped: usize,
    /// The time of the last warning.
    warned: Option<Instant>,
}

impl LogFile {
    /// Wraps an open file; `path` is for log messages only.
    pub(super) fn new(file: Arc<File>, path: &Path) -> LogFile {
        LogFile {
            file,
            path: path.to_owned(),
            chunk: Vec::new(),
            unwritten: Vec::new(),
            dropped: 0,
            warned: None,
        }
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

    /// Writes `chunk`, or keeps it if the file cannot be written, and returns the buffer.
    pub(super) async fn write(&mut self, mut chunk: Vec<u8>) -> Vec<u8> {
        if self.unwritten.is_empty() {
            let (bytes, written, result) = self.write_some(chunk).await;
            chunk = bytes;
            match result {
                Ok(()) => return chunk,
                Err(error) => {
                    self.keep(&chunk[written..]);
                    self.warn_rate_limited(&error);
                }
            }
        } else {
            self.keep(&chunk);
            self.retry().await;
        }
        chunk.clear();
        chunk
    }

    /// Resolves when [`retry`](Self::retry) should be called; never if everything is written.
    /// Cancel safe.
    pub(super) async fn retry_due(&self) {
        match self.unwritten.is_empty() {
            true => std::future::pending().await,
            false => sleep(RETRY_AFTER).await,
        }
    }

    /// Tries to write what was kept. Not cancel safe.
    pub(super) async fn retry(&mut self) {
        let kept = std::mem::take(&mut self.unwritten);
        let (mut kept, written, result) = self.write_some(kept).await;
        kept.drain(..written);
        self.unwritten = kept;
        match result {
            Ok(()) => {
                let (path, dropped_bytes) = (self.path.display(), self.dropped);
                info!(%path, dropped_bytes, "output of a process is written to its file again");
                (self.unwritten, self.dropped, self.warned) = (Vec::new(), 0, None);
            }
            Err(error) => self.warn_rate_limited(&error),
        }
    }

    /// Tries for [`LINGER`] to write what was kept, after the end of the stream.
    pub(super) async fn finish(&mut self) {
        let deadline = Instant::now() + LINGER;
        while !self.unwritten.is_empty() && Instant::now() < deadline {
            sleep(RETRY_AFTER).await;
            self.retry().await;
        }
    }

    /// Writes to the file until an error. Returns the bytes, and how many of them were written.
    async fn write_some(&mut self, bytes: Vec<u8>) -> (Vec<u8>, usize, io::Result<()>) {
        let file = Arc::clone(&self.file);
        let call = move || {
            let mut written = 0;
            let mut result = Ok(());
            while written < bytes.len() && result.is_ok() {
                match (&*file).write(&bytes[written..]) {
                    Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => result = Err(error),
                }
            }
            (bytes, written, result)
        };
        // A write does not panic, so only a shim that could not make its first threads gets here.
        let lost = |lost| (Vec::new(), 0, Err(io::Error::other(lost)));
        workers::run(Work::Log, call).await.unwrap_or_else(lost)
    }

    /// Keeps `bytes`, or their beginning, until the file can be written again.
    fn keep(&mut self, bytes: &[u8]) {
        // Once bytes are dropped, all that follow are dropped until a write succeeds. So the file
        // has one hole and not many.
        let space = if self.dropped > 0 { 0 } else { UNWRITTEN_MAX - self.unwritten.len() };
        let kept = bytes.len().min(space);
        self.unwritten.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    fn warn_rate_limited(&mut self, error: &io::Error) {
        if self.warned.is_some_and(|when| when.elapsed() < WARN_INTERVAL) {
            return;
        }
        let (path, kept_bytes, dropped_bytes) =
            (self.path.display(), self.unwritten.len(), self.dropped);
        warn!(
            %path,
            %error,
            kept_bytes,
            dropped_bytes,
            "failed to write output of a process to its file, trying again"
        );
        self.warned = Some(Instant::now());
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let dropped_bytes = self.dropped + self.unwritten.len();
        if dropped_bytes > 0 {
            let path = self.path.display();
            warn!(%path, dropped_bytes, "lost output of a process: failed to write it to its file");
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

/// Makes a file that was opened with `O_NONBLOCK` blocking, for use on [`workers`]. Refuses a
/// fifo that has replaced the file since it was checked, because a fifo could block a thread
/// without end.
fn blocking(file: File) -> io::Result<File> {
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has become a fifo"));
    }
    flow::set_nonblocking(&file, false)?;
    Ok(file)
}
