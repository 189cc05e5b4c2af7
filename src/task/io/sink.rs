//! The destination of one output stream, once it is open.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc};

use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tracing::warn;

use super::{
    IoError,
    fifo::{self, Fifo},
    file::{self, LogFile},
    flow::{self, Step},
    phase::PhaseReceiver,
};
use crate::workers::{self, Work};

/// The open destination of an output stream.
#[derive(Debug)]
pub(super) enum Sink {
    /// A client's fifo, open for writing.
    Fifo(Fifo),
    /// A file of a `file://` URI.
    File(LogFile),
    /// A pipe that a logger reads. Only for terminals: without one, a process writes to its logger
    /// directly.
    Logger(AsyncFd<OwnedFd>),
    /// Output is read and discarded, so that the process does not block.
    Discard,
}

impl Sink {
    /// Opens a fifo for writing, or a file to append to. If `create` is true, a missing file is
    /// created.
    pub(super) async fn open(path: &Path, create: bool) -> Result<Sink, IoError> {
        let failed = |source| IoError::Open { path: path.to_owned(), source };
        match fifo::is_fifo(path) {
            Ok(true) => return Fifo::open(path).map(Sink::Fifo).map_err(failed),
            Ok(false) => {}
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let name = path.to_owned();
        let file = on_worker(move || file::open_output(&name, create)).await.map_err(failed)?;
        Ok(Sink::File(LogFile::new(Arc::new(file), path)))
    }

    /// A sink for a second stream to the same destination. Both streams share one open file, so
    /// that they do not overwrite each other. A fifo is opened a second time.
    pub(super) fn share(&self, path: &Path) -> Result<Sink, IoError> {
        match self {
            Sink::File(file) => Ok(Sink::File(file.share())),
            Sink::Fifo(_) => {
                let failed = |source| IoError::Open { path: path.to_owned(), source };
                Fifo::open(path).map(Sink::Fifo).map_err(failed)
            }
            Sink::Logger(_) | Sink::Discard => Ok(Sink::Discard),
        }
    }

    /// Moves the bytes that are in a pipe, at most `max`. Waits for space in the sink, never for
    /// bytes in the pipe.
    pub(super) async fn transfer(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        max: usize,
    ) -> io::Result<Step> {
        match self {
            Sink::Fifo(fifo) => fifo.transfer(from, max).await,
            Sink::Logger(pipe) => flow::splice(from, pipe, max).await,
            Sink::File(file) => file.transfer(from, max).await,
            Sink::Discard => discard(from),
        }
    }

    /// Writes `chunk` and returns its buffer. If the reader is gone, the sink becomes
    /// [`Sink::Discard`], so that the process does not block.
    pub(super) async fn write(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        let written = match self {
            Sink::Fifo(fifo) => fifo.write(&chunk).await,
            Sink::Logger(pipe) => flow::write_all(pipe, &chunk).await,
            // After an error the file remains the sink, because a later write may succeed.
            Sink::File(file) => return file.write(chunk).await,
            Sink::Discard => Ok(()),
        };
        if let Err(error) = written {
            self.discard_after(&error);
        }
        chunk
    }

    /// Resolves when [`retry`](Self::retry) should be called. Cancel safe.
    pub(super) async fn retry_due(&self) {
        match self {
            Sink::File(file) => file.retry_due().await,
            Sink::Fifo(_) | Sink::Logger(_) | Sink::Discard => std::future::pending().await,
        }
    }

    /// Tries to write what could not be written. Not cancel safe.
    pub(super) async fn retry(&mut self) {
        if let Sink::File(file) = self {
            file.retry().await;
        }
    }

    /// Logs `error` and discards all further output.
    pub(super) fn discard_after(&mut self, error: &io::Error) {
        warn!(%error, "lost output of a process: its reader is gone");
        *self = Sink::Discard;
    }

    /// Closes the sink as soon as closing it loses no output.
    pub(super) async fn finish(self, phase: PhaseReceiver) {
        match self {
            Sink::Fifo(fifo) => fifo.linger(phase).await,
            Sink::File(mut file) => file.finish().await,
            Sink::Logger(_) | Sink::Discard => {}
        }
    }
}

/// Reads what is in the pipe and discards it.
fn discard(from: &mut AsyncFdReadyGuard<'_, OwnedFd>) -> io::Result<Step> {
    flow::read(from, &mut [0; 8 << 10])
}

/// Runs `work`, which may wait for a disk, on another thread.
pub(super) async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    workers::run(Work::File, work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
