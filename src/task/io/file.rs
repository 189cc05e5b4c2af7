//! Output into a file: written on the blocking pool, so that a slow disk holds up one stream only.
//!
//! A write error never stops the container: what does not fit is dropped, and that is said once a
//! minute at most (containerd issue 12462: any error ended the copy, and the container hung).

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

/// What is read and written at once. Allocated while bytes come, not while a container is silent.
const CHUNK: usize = 64 << 10;

/// How often a file that cannot be written is complained about.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// A file that takes one stream; two streams may share the open file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: PathBuf,
    /// Empty while the source is dry.
    chunk: Vec<u8>,
    /// Bytes that could not be written since the last complaint.
    dropped: usize,
    complained: Option<Instant>,
}

impl LogFile {
    pub(super) fn new(file: Arc<File>, path: &Path) -> LogFile {
        LogFile { file, path: path.to_owned(), chunk: Vec::new(), dropped: 0, complained: None }
    }

    /// The same open file for another stream, whose troubles are counted apart.
    pub(super) fn share(&self) -> LogFile {
        LogFile::new(Arc::clone(&self.file), &self.path)
    }

    /// Moves what the source has, a chunk at most. Not cancel safe: a chunk that was read may be
    /// lost.
    pub(super) async fn draw(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        most: usize,
    ) -> io::Result<Step> {
        self.chunk.resize(CHUNK.min(most), 0);
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

    /// Writes `chunk`, or drops what cannot be written, and gives the buffer back.
    pub(super) async fn write(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        let file = Arc::clone(&self.file);
        let written = spawn_blocking(move || {
            // Goes on after a partial write and after an interruption.
            let result = (&*file).write_all(&chunk);
            (chunk, result)
        });
        match written.await {
            Ok((chunk, Ok(()))) => chunk,
            Ok((chunk, Err(error))) => {
                self.dropped += chunk.len();
                self.complain(&error);
                chunk
            }
            // The pool is shutting down, and the shim with it.
            Err(_) => Vec::new(),
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_some_and(|when| when.elapsed() < COMPLAINT_EVERY) {
            return;
        }
        warn!(path = %self.path.display(), %error, dropped_bytes = self.dropped, "output not written");
        self.complained = Some(Instant::now());
        self.dropped = 0;
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        if self.dropped > 0 {
            warn!(path = %self.path.display(), dropped_bytes = self.dropped, "output not written");
        }
    }
}

/// Opens a file to append to. With `create`, makes it and its folders where they are missing, with
/// the modes that containerd's own shim gives them.
pub(super) fn open_output(path: &Path, create: bool) -> io::Result<File> {
    if let (true, Some(folder)) = (create, path.parent()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(create).mode(0o644);
    blocking(options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?)
}

/// Opens a file, or a device, to read the input of a process from.
pub(super) fn open_input(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    blocking(options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?)
}

/// What was opened without waiting, for use on the blocking pool. A fifo that has taken the file's
/// place would block that pool for ever.
fn blocking(file: File) -> io::Result<File> {
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "has become a fifo"));
    }
    flow::set_nonblocking(&file, false)?;
    Ok(file)
}
