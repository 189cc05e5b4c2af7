//! A client's fifos: opened without waiting for the client, and kept open while clients come and
//! go.
//!
//! The shim holds both ends of each fifo. So no open waits for the other side, the process gets no
//! `SIGPIPE` when a client leaves, and a client that comes back (a restarted containerd) continues
//! to read.
//!
//! The price: while no client reads, the fifo and the pipe behind it fill (64 KiB each) and the
//! process blocks in its write(2). This is the policy: bytes of a living process are never dropped.
//!
//! Both pipes keep the size that the kernel gives them. With 256 KiB each, a gibibyte passes in 0.3
//! s instead of 0.7 s. But the pages count against one limit for all of root's pipes
//! (`pipe-user-pages-soft`, 64 MiB); beyond it, every new pipe of a container's root gets only two
//! pages. And 0.7 s is what the same fifo takes without a shim.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::FileTypeExt as _,
    },
    path::Path,
    time::Duration,
};

use nix::{
    fcntl::{OFlag, open},
    poll::PollFlags,
    sys::stat::Mode,
};
use tokio::{
    io::{
        Interest,
        unix::{AsyncFd, AsyncFdReadyGuard},
    },
    select,
    time::{Instant, sleep},
};

use super::{
    flow::{self, Step},
    phase::Life,
};
use crate::sys;

/// How long output waits for a reader after its process was deleted.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// First and longest interval of checking whether a reader has opened the fifo. Polling is
/// necessary because the kernel does not notify a writer of it (`fifo_open`, Linux 6.18, wakes
/// blocked openers only).
const READER_CHECK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// The fifo that a client reads an output from.
#[derive(Debug)]
pub(super) struct Fifo {
    write: AsyncFd<OwnedFd>,
    /// Never read from. Held open so that the process gets no `SIGPIPE` while no client reads.
    read: OwnedFd,
    /// Whether the last step moved a page or more, so that the next one splices.
    bulk: bool,
}

impl Fifo {
    /// Opens both ends without waiting for a client.
    pub(super) fn open(path: &Path) -> io::Result<Fifo> {
        // The read end first: opening the write end of a fifo without a reader fails (ENXIO).
        let read = open(path, OFlag::O_RDONLY | FLAGS, Mode::empty())?;
        let write = same_fifo(&read, OFlag::O_WRONLY)?;
        Ok(Fifo { write: sys::watched(write, Interest::WRITABLE)?, read, bulk: false })
    }

    /// Moves what a pipe has, at most `max` bytes. Waits for space in the fifo, never for bytes in
    /// the pipe.
    pub(super) async fn transfer(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        max: usize,
    ) -> io::Result<Step> {
        let step = match self.bulk {
            // Splicing is faster for bulk output; copying lets short lines share a page.
            true => flow::splice(from, &self.write, max).await?,
            false => flow::copy(from, &self.write, max).await?,
        };
        self.bulk = flow::is_bulk(step);
        Ok(step)
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        flow::write_all(&self.write, bytes).await
    }

    /// Closes the fifo as soon as a client has it open or has read everything. The kernel drops the
    /// contents of a fifo when its last descriptor is closed, so without this wait a late client
    /// would find nothing.
    ///
    /// Closes at once if nothing is unread, and in any case [`LINGER`] after all was closed.
    pub(super) async fn linger(self, mut life: Life) {
        let Fifo { write, read, .. } = self;
        // The shim's own read end would count as a reader in the check below.
        drop(read);
        let is_unread = || sys::fd::bytes_waiting(write.get_ref()).is_ok_and(|bytes| bytes > 0);
        // poll(2) reports an error (POLLERR) on a write end that has no reader.
        let has_no_reader = || flow::is_ready(write.get_ref(), PollFlags::empty());
        let mut interval = READER_CHECK.0;
        let mut until = None;
        while is_unread() && has_no_reader() && until.is_none_or(|until| Instant::now() < until) {
            select! {
                () = life.closed(), if until.is_none() => until = Some(Instant::now() + LINGER),
                () = sleep(interval) => interval = (interval * 2).min(READER_CHECK.1),
            }
        }
    }
}

/// Opens the fifo that a client writes a process's input to. Returns the read end and a writer of
/// the shim's own. While that writer is open, a client that leaves does not end the input.
pub(super) fn open_input(path: &Path) -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let read = open(path, OFlag::O_RDONLY | FLAGS, Mode::empty())?;
    let write = same_fifo(&read, OFlag::O_WRONLY)?;
    Ok((sys::watched(read, Interest::READABLE)?, write))
}

/// Whether `path` is a fifo. Follows symbolic links, because containerd creates them.
pub(super) fn is_fifo(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.file_type().is_fifo())
}

const FLAGS: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// Opens another end of an open fifo. Through the descriptor, because `path` may mean another file
/// by now.
fn same_fifo(fifo: &OwnedFd, access: OFlag) -> io::Result<OwnedFd> {
    if !std::fs::File::from(fifo.try_clone()?).metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a fifo"));
    }
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    Ok(open(path.as_str(), access | FLAGS, Mode::empty())?)
}
