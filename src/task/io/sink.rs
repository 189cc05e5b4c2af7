//! Where one output stream ends up, once it is open.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc};

use tokio::{
    io::unix::{AsyncFd, AsyncFdReadyGuard},
    task::spawn_blocking,
};
use tracing::warn;

use super::{
    IoError,
    fifo::{self, Fifo},
    file::{self, LogFile},
    flow::{self, Step},
    phase::Life,
};

/// The open end of an output.
#[derive(Debug)]
pub(super) enum Sink {
    /// A client's fifo.
    Fifo(Fifo),
    /// A file.
    File(LogFile),
    /// A pipe that a logger reads: for terminals; other processes write to their logger themselves.
    Logger(AsyncFd<OwnedFd>),
    /// Read and forgotten, so that the process is not blocked.
    Nowhere,
}

impl Sink {
    /// Opens what is at `path`: a fifo, else a file to append to, which is made if `create` says
    /// so.
    pub(super) async fn open(path: &Path, create: bool) -> Result<Sink, IoError> {
        let failed = |source| IoError::Open { path: path.to_owned(), source };
        match fifo::is_fifo(path) {
            Ok(true) => return Fifo::open(path).map(Sink::Fifo).map_err(failed),
            Ok(false) => {}
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let name = path.to_owned();
        let file = off_the_loop(move || file::open_output(&name, create)).await.map_err(failed)?;
        Ok(Sink::File(LogFile::new(Arc::new(file), path)))
    }

    /// A second stream into the same end: one open file, so that both append in turn. For a fifo,
    /// its two ends once more.
    pub(super) fn share(&self, path: &Path) -> Result<Sink, IoError> {
        match self {
            Sink::File(file) => Ok(Sink::File(file.share())),
            Sink::Fifo(_) => {
                let failed = |source| IoError::Open { path: path.to_owned(), source };
                Fifo::open(path).map(Sink::Fifo).map_err(failed)
            }
            Sink::Logger(_) | Sink::Nowhere => Ok(Sink::Nowhere),
        }
    }

    /// Moves what a pipe has, at most `most` bytes. Waits for room, never for bytes.
    pub(super) async fn draw(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        most: usize,
    ) -> io::Result<Step> {
        match self {
            Sink::Fifo(fifo) => fifo.draw(from, most).await,
            Sink::Logger(pipe) => flow::splice(from, pipe, most).await,
            Sink::File(file) => file.draw(from, most).await,
            Sink::Nowhere => forget(from),
        }
    }

    /// Writes `chunk` and gives its buffer back. A reader that is gone makes this a
    /// [`Sink::Nowhere`]: the process must not suffer.
    pub(super) async fn write(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        let written = match self {
            Sink::Fifo(fifo) => fifo.write(&chunk).await,
            Sink::Logger(pipe) => flow::write_all(pipe, &chunk).await,
            Sink::File(file) => return file.write(chunk).await,
            Sink::Nowhere => Ok(()),
        };
        if let Err(error) = written {
            self.give_up(&error);
        }
        chunk
    }

    /// From now on, what comes is forgotten.
    pub(super) fn give_up(&mut self, error: &io::Error) {
        warn!(%error, "output lost: its reader is gone");
        *self = Sink::Nowhere;
    }

    /// Closes the end, as soon as nothing is lost by it.
    pub(super) async fn finish(self, life: Life) {
        match self {
            Sink::Fifo(fifo) => fifo.linger(life).await,
            Sink::File(_) | Sink::Logger(_) | Sink::Nowhere => {}
        }
    }
}

/// Reads a stack's worth and drops it.
fn forget(from: &mut AsyncFdReadyGuard<'_, OwnedFd>) -> io::Result<Step> {
    flow::read(from, &mut [0; 8 << 10])
}

/// Runs what may wait for a disk on the blocking pool.
pub(super) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}
