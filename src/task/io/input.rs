//! The input of a process: from the client's fifo, or a file, to its pipe.
//!
//! It begins when the process is to start and ends with it. The end of the client's bytes closes
//! the pipe; for a fifo that is when [`CloseIO`](super::ProcessIo::close_stdin) has dropped our own
//! writer and every client has closed theirs.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    select,
};

use super::{
    file,
    flow::{self, Step, Turn},
    phase::Life,
    sink::off_the_loop,
};
use crate::model::Watched;

/// What is read from a file at once. It exists while a file is being read only.
const CHUNK: usize = 64 << 10;

/// Who is told of each part of the input that went through, if anybody.
pub(super) type Tap = Option<Arc<dyn Watched>>;

/// Where the input comes from.
#[derive(Debug)]
pub(super) enum Feed {
    /// A client's fifo.
    Fifo(AsyncFd<OwnedFd>, Tap),
    /// A file or a device, opened and read on the blocking pool.
    File(PathBuf),
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
        Feed::Fifo(fifo, tap) => {
            let mut turn = Turn::default();
            loop {
                let mut ready = fifo.readable().await?;
                match flow::splice(&mut ready, pipe, usize::MAX).await? {
                    Step::Moved(bytes) => {
                        tell(tap);
                        turn.spent(bytes).await;
                    }
                    Step::Dry => {}
                    Step::End => return Ok(()),
                }
            }
        }
        Feed::File(path) => {
            let file = open_file(path).await?;
            loop {
                let chunk = read_file(&file).await?;
                if chunk.is_empty() {
                    return Ok(());
                }
                flow::write_all(pipe, &chunk).await?;
            }
        }
    }
}

/// Some of the input went through.
pub(super) fn tell(tap: &Tap) {
    if let Some(watched) = tap {
        watched.input();
    }
}

/// Opens a file to read the input from.
pub(super) async fn open_file(path: &Path) -> io::Result<Arc<File>> {
    let path = path.to_owned();
    off_the_loop(move || file::open_input(&path)).await.map(Arc::new)
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
