//! The input of a process: from the client's fifo, or a file, to its pipe.
//!
//! It begins when the runtime is done and ends with the process. The end of the client's bytes closes
//! the pipe; for a fifo that is when [`CloseIO`](super::ProcessIo::close_stdin) has dropped our own
//! writer and every client has closed theirs.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    select,
};

use super::{
    IoError, fifo,
    file,
    flow::{self, Step, Turn},
    phase::Life,
    sink::off_the_loop,
};

/// What is read from a file at once. It exists while a file is being read only.
const CHUNK: usize = 64 << 10;

/// Where the input comes from.
#[derive(Debug)]
pub(super) enum Feed {
    /// A client's fifo.
    Fifo(AsyncFd<OwnedFd>),
    /// A file or a device, read on the blocking pool.
    File(Arc<File>),
}

impl Feed {
    /// Opens what is at `path`; with a fifo comes the writer that keeps it open.
    pub(super) async fn open(path: &Path) -> Result<(Feed, Option<OwnedFd>), IoError> {
        let failed = |source| IoError::Open { path: path.to_owned(), source };
        if fifo::is_fifo(path).map_err(failed)? {
            let (read, keep) = fifo::open_input(path).map_err(failed)?;
            return Ok((Feed::Fifo(read), Some(keep)));
        }
        let name = path.to_owned();
        let file = off_the_loop(move || file::open_input(&name)).await.map_err(failed)?;
        Ok((Feed::File(Arc::new(file)), None))
    }
}

/// Carries the input into the process's pipe.
pub(super) async fn relay(feed: Feed, pipe: AsyncFd<OwnedFd>, mut life: Life) {
    if !life.released().await {
        return;
    }
    select! {
        biased;
        () = life.exited() => {}
        // Nobody is left to read: the process closed its input, or is gone with all its children.
        _ = pipe.ready(Interest::ERROR) => {}
        // Whatever ends it: a process that leaves its input unread is no fault.
        _ = carry(&feed, &pipe) => {}
    }
}

async fn carry(feed: &Feed, pipe: &AsyncFd<OwnedFd>) -> io::Result<()> {
    match feed {
        Feed::Fifo(fifo) => {
            let mut turn = Turn::default();
            loop {
                let mut ready = fifo.readable().await?;
                match flow::splice(&mut ready, pipe, usize::MAX).await? {
                    Step::Moved(bytes) => turn.spent(bytes).await,
                    Step::Dry => {}
                    Step::End => return Ok(()),
                }
            }
        }
        Feed::File(file) => loop {
            let chunk = read_file(file).await?;
            if chunk.is_empty() {
                return Ok(());
            }
            flow::write_all(pipe, &chunk).await?;
        },
    }
}

/// The next part of a file; empty at its end.
pub(super) async fn read_file(file: &Arc<File>) -> io::Result<Vec<u8>> {
    let file = Arc::clone(file);
    off_the_loop(move || {
        let mut chunk = vec![0; CHUNK];
        let count = (&*file).read(&mut chunk)?;
        chunk.truncate(count);
        Ok(chunk)
    })
    .await
}
