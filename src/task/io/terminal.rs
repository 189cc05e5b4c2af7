//! The relay of a process with a terminal: from the master to the sink, and from the client to the
//! master.
//!
//! Constraints:
//!
//! * `EIO` from a master means that no slave is open *now* (`n_tty_read`, Linux 6.18, after all
//!   output has been read). An init may close its terminal and open it again, as systemd does. So
//!   `EIO` is the end of the output only if the process is dead. Before that, epoll reports the
//!   hang-up permanently, so the master is read at intervals instead.
//! * The end of the client's input hangs up the terminal (closes the master), as in containerd's
//!   own shim. This is how the shell of a broken `kubectl exec -it` gets its `SIGHUP`. The shim
//!   delays the hang-up by one second, so that the client still receives the answer to its last
//!   input.
//! * Only the relay's async task owns the master, because a second descriptor would keep the
//!   terminal from hanging up.

use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

use nix::errno::Errno;
use tokio::{
    io::unix::AsyncFd,
    select,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    fifo::LINGER,
    flow::{self, Step, YieldBudget},
    input::{self, InputObserver, InputSource},
    phase::PhaseReceiver,
    sink::Sink,
};

/// The largest number of bytes that one read of a terminal returns (`N_TTY_BUF_SIZE`).
const CHUNK_SIZE: usize = 4 << 10;

/// The largest number of bytes that are read after the [`ProcessIo`](super::ProcessIo) was dropped.
/// It is more than a terminal's buffers hold. It is limited because a surviving process may write
/// without end.
const READ_AFTER_DROP_LIMIT: usize = 128 << 10;

/// Time from the end of the client's input to the hang-up.
const HANG_UP_AFTER: Duration = Duration::from_secs(1);

/// First and longest interval between reads of a hung-up terminal, for which epoll reports no
/// edges.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// The time to wait before writing to a full terminal again. The kernel does not report free space
/// if the reader of the slave frees less than a threshold at a time.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Relays a terminal's streams until its process is dead and all output is read, or until the
/// terminal is to hang up. Drops `undrained` when all output is in the sink.
pub(super) async fn relay(
    master: Arc<AsyncFd<OwnedFd>>,
    feed: Option<oneshot::Receiver<InputSource>>,
    mut sink: Sink,
    phase: PhaseReceiver,
    undrained: watch::Receiver<()>,
) {
    let mut closed = phase.clone();
    let overdue = async {
        closed.closed().await;
        sleep(LINGER).await;
    };
    select! {
        () = relay_output(&master, &mut sink, phase.clone()) => {}
        () = relay_input(&master, feed) => {}
        () = overdue => return warn!("lost output of a process: its reader was too slow"),
    }
    // The master is closed before `finish`, which hangs up the terminal and ends a drain.
    drop((master, undrained));
    sink.finish(phase).await;
}

/// Relays the output until the process is dead and all output is read.
async fn relay_output(master: &AsyncFd<OwnedFd>, sink: &mut Sink, mut phase: PhaseReceiver) {
    let mut budget = YieldBudget::default();
    let mut interval = POLL_INTERVAL.0;
    let mut remaining = READ_AFTER_DROP_LIMIT;
    // The buffer is allocated only while there is output.
    let mut chunk = Vec::new();
    loop {
        let mut ready = select! {
            biased;
            ready = master.readable() => ready,
            // The close is observed only while the terminal is idle, so that the bytes in the
            // terminal are still read.
            () = phase.closed(), if chunk.is_empty() => return,
            () = sink.retry_due() => {
                sink.retry().await;
                continue;
            }
        };
        let Ok(ready) = &mut ready else { return };
        let was_hung_up = ready.ready().is_read_closed();
        chunk.resize(CHUNK_SIZE, 0);
        match flow::read(ready, &mut chunk) {
            Ok(Step::Moved(count)) => {
                chunk.truncate(count);
                chunk = sink.write(chunk).await;
                budget.spend(count).await;
                interval = POLL_INTERVAL.0;
                if phase.is_closed() {
                    remaining = remaining.saturating_sub(count);
                    if remaining == 0 {
                        return;
                    }
                }
                continue;
            }
            Ok(Step::End) => return,
            Ok(Step::Dry) if phase.is_closed() => return,
            // The read has cleared the readiness, unless a hang-up has made it permanent.
            Ok(Step::Dry) if !was_hung_up => {
                chunk = Vec::new();
                continue;
            }
            Ok(Step::Dry) => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                if phase.has_exited() {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "lost output of a process: failed to read its terminal");
                return;
            }
        }
        chunk = Vec::new();
        select! {
            () = phase.changed() => {}
            () = sleep(interval) => interval = (interval * 2).min(POLL_INTERVAL.1),
        }
    }
}

/// Relays the client's input. Returns when the terminal is to hang up. Never returns if the input
/// is a file.
async fn relay_input(master: &AsyncFd<OwnedFd>, feed: Option<oneshot::Receiver<InputSource>>) {
    let feed = match feed {
        Some(feed) => feed.await.ok(),
        None => None,
    };
    match feed {
        Some(InputSource::Fifo(fifo, input_observer)) => {
            if let Err(error) = relay_from_fifo(&fifo, &input_observer, master).await {
                warn!(%error, "lost input of a process: failed to relay it to the terminal");
                // This function does not return, because that would hang up the terminal. The
                // output continues without input.
                return std::future::pending().await;
            }
            sleep(HANG_UP_AFTER).await;
        }
        Some(InputSource::File(path)) => {
            let Ok(file) = input::open_file(&path).await else {
                return std::future::pending().await;
            };
            while let Ok(chunk) = input::read_file(&file).await
                && !chunk.is_empty()
                && write_to_terminal(master, &chunk).await.is_ok()
            {}
            // The end of a file does not mean that a client has disconnected, so the terminal is
            // not hung up.
            std::future::pending().await
        }
        None => std::future::pending().await,
    }
}

/// Relays the input until every write end of the fifo is closed, including the shim's own.
async fn relay_from_fifo(
    fifo: &AsyncFd<OwnedFd>,
    input_observer: &InputObserver,
    master: &AsyncFd<OwnedFd>,
) -> io::Result<()> {
    loop {
        let mut ready = fifo.readable().await?;
        let mut chunk = vec![0; CHUNK_SIZE];
        match flow::read(&mut ready, &mut chunk)? {
            Step::Moved(count) => {
                input::report_delivered(input_observer);
                write_to_terminal(master, &chunk[..count]).await?;
            }
            Step::Dry => {}
            Step::End => return Ok(()),
        }
    }
}

/// Writes all of `bytes` to the terminal. Waits while the terminal is full, and while no process
/// has it open.
async fn write_to_terminal(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = master.writable().await?;
        match nix::unistd::write(ready.get_inner(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            // EIO: no process has the terminal open now, but one may open it again.
            Err(Errno::EAGAIN | Errno::EIO) => {
                if ready.ready().is_write_closed() {
                    // A hang-up cannot be cleared, so waiting for readiness would return at once.
                    sleep(RETRY_INTERVAL).await;
                } else {
                    ready.clear_ready();
                    let _ = timeout(RETRY_INTERVAL, master.writable()).await;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
