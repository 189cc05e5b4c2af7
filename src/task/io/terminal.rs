//! The relay of a process with a terminal: from the master to the sink, and from the client to the
//! master.
//!
//! Constraints:
//!
//! * `EIO` from a master means that no slave is open *now* (`n_tty_read`, Linux 6.18, after
//!   everything that was written has been read). An init may close its terminal and open it again,
//!   as systemd does. So `EIO` is the end only once the process is known to be dead. Until then
//!   epoll reports the hang-up permanently, so the master is read at intervals instead.
//! * The end of the client's input hangs up the terminal (closes the master), as in containerd's
//!   own shim. This is how the shell of a broken `kubectl exec -it` gets its `SIGHUP`. Here it
//!   happens one second later, so that the answer to the last input still arrives.
//! * The master has one owner, this task: a second descriptor would keep the terminal from hanging
//!   up.

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
    flow::{self, Budget, Step},
    input::{self, Feed, Tap},
    phase::Life,
    sink::Sink,
};

/// Bytes that one read of a terminal returns at most (`N_TTY_BUF_SIZE`).
const CHUNK: usize = 4 << 10;

/// Bytes that are still read after all was closed: more than a terminal's buffers hold. A bound,
/// because a surviving process may write for ever.
const CLOSED_LIMIT: usize = 128 << 10;

/// Time from the end of the client's input to the hang-up.
const HANG_UP_AFTER: Duration = Duration::from_secs(1);

/// First and longest interval between reads of a hung-up terminal, for which epoll has no more
/// edges.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// How long to wait before writing to a full terminal again. Space can become free without a
/// wake-up, if the slave's reader frees less than the wake-up's threshold at a time.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Relays a terminal's streams until its process is dead and its output read, or until it hangs up.
/// Drops `undrained` when the output is in the sink.
pub(super) async fn relay(
    master: Arc<AsyncFd<OwnedFd>>,
    feed: Option<oneshot::Receiver<Feed>>,
    mut sink: Sink,
    life: Life,
    undrained: watch::Receiver<()>,
) {
    let mut closed = life.clone();
    let overdue = async {
        closed.closed().await;
        sleep(LINGER).await;
    };
    select! {
        () = output(&master, &mut sink, life.clone()) => {}
        () = hang_up(&master, feed) => {}
        () = overdue => return warn!("output lost: its reader was too slow"),
    }
    // The master is closed before the linger: this hangs up the terminal and ends a drain.
    drop((master, undrained));
    sink.finish(life).await;
}

/// Relays the output until the process is dead and nothing is left to read.
async fn output(master: &AsyncFd<OwnedFd>, sink: &mut Sink, mut life: Life) {
    let mut budget = Budget::default();
    let mut interval = POLL_INTERVAL.0;
    let mut remaining = CLOSED_LIMIT;
    // Allocated only while there is output.
    let mut chunk = Vec::new();
    loop {
        let mut ready = select! {
            biased;
            ready = master.readable() => ready,
            // Only while the terminal is idle: what it holds at the close is still read.
            () = life.closed(), if chunk.is_empty() => return,
        };
        let Ok(ready) = &mut ready else { return };
        let was_hung_up = ready.ready().is_read_closed();
        chunk.resize(CHUNK, 0);
        match flow::read(ready, &mut chunk) {
            Ok(Step::Moved(count)) => {
                chunk.truncate(count);
                chunk = sink.write(chunk).await;
                budget.spend(count).await;
                interval = POLL_INTERVAL.0;
                if life.is_closed() {
                    remaining = remaining.saturating_sub(count);
                    if remaining == 0 {
                        return;
                    }
                }
                continue;
            }
            Ok(Step::End) => return,
            Ok(Step::Dry) if life.is_closed() => return,
            // The read has cleared the readiness. That holds unless a hang-up has made it
            // permanent.
            Ok(Step::Dry) if !was_hung_up => {
                chunk = Vec::new();
                continue;
            }
            Ok(Step::Dry) => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                if life.has_exited() {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "terminal output lost: reading the terminal failed");
                return;
            }
        }
        chunk = Vec::new();
        select! {
            () = life.changed() => {}
            () = sleep(interval) => interval = (interval * 2).min(POLL_INTERVAL.1),
        }
    }
}

/// Relays the client's input. Returns when the terminal is to hang up, which for input from a file
/// is never.
async fn hang_up(master: &AsyncFd<OwnedFd>, feed: Option<oneshot::Receiver<Feed>>) {
    let feed = match feed {
        Some(feed) => feed.await.ok(),
        None => None,
    };
    match feed {
        Some(Feed::Fifo(fifo, tap)) => {
            if let Err(error) = relay_from_fifo(&fifo, &tap, master).await {
                warn!(%error, "terminal input lost: relaying it failed");
                // Returning would hang up the terminal; the output goes on without input.
                return std::future::pending().await;
            }
            sleep(HANG_UP_AFTER).await;
        }
        Some(Feed::File(path)) => {
            let Ok(file) = input::open_file(&path).await else {
                return std::future::pending().await;
            };
            while let Ok(chunk) = input::read_file(&file).await
                && !chunk.is_empty()
                && write_to_terminal(master, &chunk).await.is_ok()
            {}
            // The end of a file does not mean that a client has left, so the terminal stays.
            std::future::pending().await
        }
        None => std::future::pending().await,
    }
}

/// Relays the input until every writer has closed the fifo, the shim's own included.
async fn relay_from_fifo(
    fifo: &AsyncFd<OwnedFd>,
    tap: &Tap,
    master: &AsyncFd<OwnedFd>,
) -> io::Result<()> {
    loop {
        let mut ready = fifo.readable().await?;
        let mut chunk = vec![0; CHUNK];
        match flow::read(&mut ready, &mut chunk)? {
            Step::Moved(count) => {
                input::notify(tap);
                write_to_terminal(master, &chunk[..count]).await?;
            }
            Step::Dry => {}
            Step::End => return Ok(()),
        }
    }
}

/// Writes all of `bytes` to the terminal. Waits while it is full, and while no process has it open.
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
