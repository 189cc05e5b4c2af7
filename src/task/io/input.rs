//! The input of a process: from the client's fifo or file to the pipe of the process.
//!
//! The relay begins when the process is about to start, and ends with the process. The pipe is
//! closed at the end of the client's input. The input from a fifo ends when
//! [`CloseIO`](super::ProcessIo::close_stdin) has dropped the shim's own write end and every client
//! has closed its write end.

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
    flow::{self, Step, YieldBudget},
    phase::PhaseReceiver,
    sink::on_worker,
};
use crate::model::ObservedContainer;

/// The size in bytes of the buffer for one read of a file. The buffer exists only while a file is
/// read.
const CHUNK_SIZE: usize = 64 << 10;

/// The object that is notified of each part of the input that was delivered; `None` if the
/// container is not observed.
pub(super) type InputObserver = Option<Arc<dyn ObservedContainer>>;

/// The source of the input.
#[derive(Debug)]
pub(super) enum InputSource {
    /// A client's fifo, open for reading.
    Fifo(AsyncFd<OwnedFd>, InputObserver),
    /// A file or device, opened and read on another thread.
    File(PathBuf),
}

/// Relays the input into the process's pipe, until the input ends or the process does not read it
/// any more.
pub(super) async fn relay(feed: InputSource, pipe: AsyncFd<OwnedFd>, mut phase: PhaseReceiver) {
    if !phase.released().await {
        return;
    }
    select! {
        biased;
        // The exit is checked first: a client that continues to write must not prevent the relay of
        // a dead process from ending.
        () = phase.exited() => {}
        // The pipe has no reader any more: the process has closed its input, or it has exited and
        // so have its children.
        _ = pipe.ready(Interest::ERROR) => {}
        // The result is ignored: a process that leaves its input unread is not an error.
        _ = copy_all(&feed, &pipe) => {}
    }
}

/// Copies all input from its source to the process's pipe.
async fn copy_all(feed: &InputSource, pipe: &AsyncFd<OwnedFd>) -> io::Result<()> {
    match feed {
        InputSource::Fifo(fifo, input_observer) => {
            let mut budget = YieldBudget::default();
            loop {
                let mut ready = fifo.readable().await?;
                match flow::splice(&mut ready, pipe, usize::MAX).await? {
                    Step::Moved(bytes) => {
                        report_delivered(input_observer);
                        budget.spend(bytes).await;
                    }
                    Step::Dry => {}
                    Step::End => return Ok(()),
                }
            }
        }
        InputSource::File(path) => {
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

/// Reports that a part of the input was delivered.
pub(super) fn report_delivered(input_observer: &InputObserver) {
    if let Some(watched) = input_observer {
        watched.input();
    }
}

/// Opens a file on another thread to read the input from.
pub(super) async fn open_file(path: &Path) -> io::Result<Arc<File>> {
    let path = path.to_owned();
    on_worker(move || file::open_input(&path)).await.map(Arc::new)
}

/// Reads the next part of a file. The result is empty at the end of the file.
pub(super) async fn read_file(file: &Arc<File>) -> io::Result<Vec<u8>> {
    let file = Arc::clone(file);
    on_worker(move || {
        let mut chunk = vec![0; CHUNK_SIZE];
        let count = (&*file).read(&mut chunk)?;
        chunk.truncate(count);
        Ok(chunk)
    })
    .await
}
