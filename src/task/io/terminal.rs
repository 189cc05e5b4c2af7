//! The relay of a process with a terminal: master → sink, client → master.
//!
//! What bites:
//!
//! * `EIO` from a master means that no slave is open *now* (`n_tty_read`, Linux 6.18, after all
//!   that was written has been read). An init that closes its terminal and opens it again, as
//!   systemd does, goes on; so `EIO` is the end only once the process is known to be dead. epoll
//!   then shows the hang-up for ever, and the master is looked at by the clock until the end.
//! * The end of the client's input hangs the terminal up (closes the master), as containerd's own
//!   shim does: that is how the shell of a broken `kubectl exec -it` comes to its `SIGHUP`. Here a
//!   second later, so that the answer to what was typed last still arrives.
//! * The master has one owner, this task: a second handle would keep the terminal from hanging up.

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
    flow::{self, Step, Turn},
    input::{self, Feed, Tap},
    phase::Life,
    sink::Sink,
};

/// As much as a terminal gives at a time (`N_TTY_BUF_SIZE`).
const CHUNK: usize = 4 << 10;

/// What may still come after all was closed: more than a terminal's buffers hold.
const REST: usize = 128 << 10;

/// From the end of the client's input to the hang-up.
const HANG_UP_AFTER: Duration = Duration::from_secs(1);

/// How often a terminal is looked at that epoll has no more news of: first and at last.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// How long a full terminal is waited for: room can come without a wake-up, when the slave's reader
/// frees less than the wake-up's threshold at a time.
const RETRY: Duration = Duration::from_millis(100);

/// Carries a terminal's streams until its process is dead and its output read, or until it hangs
/// up. `undrained` is dropped when the output is in the sink.
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
        () = overdue => return warn!("output lost: its reader is too slow"),
    }
    drop((master, undrained));
    sink.finish(life).await;
}

/// Reads until the process is dead and nothing is left.
async fn output(master: &AsyncFd<OwnedFd>, sink: &mut Sink, mut life: Life) {
    let mut turn = Turn::default();
    let mut look = LOOK.0;
    let mut rest = REST;
    // Allocated while the terminal talks.
    let mut chunk = Vec::new();
    loop {
        let mut ready = select! {
            biased;
            ready = master.readable() => ready,
            () = life.closed(), if chunk.is_empty() => return,
        };
        let Ok(ready) = &mut ready else { return };
        let was_hung_up = ready.ready().is_read_closed();
        chunk.resize(CHUNK, 0);
        match flow::read(ready, &mut chunk) {
            Ok(Step::Moved(count)) => {
                chunk.truncate(count);
                chunk = sink.write(chunk).await;
                turn.spent(count).await;
                look = LOOK.0;
                if life.is_closed() {
                    rest = rest.saturating_sub(count);
                    if rest == 0 {
                        return;
                    }
                }
                continue;
            }
            Ok(Step::End) => return,
            Ok(Step::Dry) if life.is_closed() => return,
            // The readiness is cleared, unless a hang-up has made it permanent.
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
                warn!(%error, "terminal lost");
                return;
            }
        }
        chunk = Vec::new();
        select! {
            () = life.changed() => {}
            () = sleep(look) => look = (look * 2).min(LOOK.1),
        }
    }
}

/// Carries the client's input. Returns when the terminal is to hang up.
async fn hang_up(master: &AsyncFd<OwnedFd>, feed: Option<oneshot::Receiver<Feed>>) {
    let feed = match feed {
        Some(feed) => feed.await.ok(),
        None => None,
    };
    match feed {
        Some(Feed::Fifo(fifo, tap)) => {
            if let Err(error) = type_from_fifo(&fifo, &tap, master).await {
                warn!(%error, "terminal input lost");
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
                && type_all(master, &chunk).await.is_ok()
            {}
            // The end of a file says nothing of the client.
            std::future::pending().await
        }
        None => std::future::pending().await,
    }
}

/// Until every writer of the fifo has closed it, ours too.
async fn type_from_fifo(
    fifo: &AsyncFd<OwnedFd>,
    tap: &Tap,
    master: &AsyncFd<OwnedFd>,
) -> io::Result<()> {
    loop {
        let mut ready = fifo.readable().await?;
        let mut chunk = vec![0; CHUNK];
        match flow::read(&mut ready, &mut chunk)? {
            Step::Moved(count) => {
                input::tell(tap);
                type_all(master, &chunk[..count]).await?;
            }
            Step::Dry => {}
            Step::End => return Ok(()),
        }
    }
}

/// Writes to the terminal as somebody types; waits while it is full, and while nobody has it open.
async fn type_all(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = master.writable().await?;
        match nix::unistd::write(ready.get_inner(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EIO) => {
                if ready.ready().is_write_closed() {
                    sleep(RETRY).await;
                } else {
                    ready.clear_ready();
                    let _ = timeout(RETRY, master.writable()).await;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
