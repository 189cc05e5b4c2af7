//! A client's fifos: opened without waiting for the client, and kept open while clients connect and
//! disconnect.
//!
//! The shim holds both ends of each fifo: of an output with one descriptor for reading and writing,
//! which fifo(7) allows on Linux. So no open(2) waits for the other end, the process
//! receives no `SIGPIPE` when a client disconnects, and a client that connects again (a restarted
//! containerd) continues to read.
//!
//! The disadvantage: while no client reads, the fifo and the pipe of the process fill (64 KiB
//! each), and then the process blocks in write(2). This is intended, because output of a living
//! process must not be dropped.
//!
//! Both pipes keep the size that the kernel gives them. With 256 KiB each, relaying 1 GiB would
//! take 0.3 s instead of 0.7 s. But the pages count against one limit for all pipes of root
//! (`pipe-user-pages-soft`, 64 MiB); beyond this limit, every new pipe of root in a container has
//! only two pages. Without a shim, the same fifo also takes 0.7 s.

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
    sys::stat::{Mode, SFlag, fstat},
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
    phase::PhaseReceiver,
};
use crate::sys::{self, nofile};

/// The longest time that output is kept for a reader after its process was deleted.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// First and longest interval of checking whether a reader has opened the fifo. Polling is
/// necessary because the kernel does not notify a writer when a reader opens the fifo (`fifo_open`,
/// Linux 6.18, wakes only blocked calls of open).
const READER_CHECK_INTERVAL: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(500));

/// The fifo from which a client reads one output stream of a process.
#[derive(Debug)]
pub(super) struct Fifo {
    /// Open for writing and also for reading, although nothing is read from it: so the process
    /// receives no `SIGPIPE` while no client reads.
    both_ends: AsyncFd<OwnedFd>,
    /// Whether the last step moved a page or more, so that the next step uses splice(2).
    bulk: bool,
}

impl Fifo {
    /// Opens both ends without waiting for a client.
    pub(super) fn open(path: &Path) -> io::Result<Fifo> {
        let both_ends = open(path, OFlag::O_RDWR | FIFO_FLAGS, Mode::empty())?;
        check_is_fifo(&both_ends)?;
        Ok(Fifo { both_ends: sys::watched(both_ends, Interest::WRITABLE)?, bulk: false })
    }

    /// Moves the bytes that are in a pipe, at most `max`. Waits for space in the fifo, never for
    /// bytes in the pipe.
    pub(super) async fn transfer(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        max: usize,
    ) -> io::Result<Step> {
        let step = match self.bulk {
            // splice(2) is faster for bulk output. Copying lets short lines share a page.
            true => flow::splice(from, &self.both_ends, max).await?,
            false => flow::copy(from, &self.both_ends, max).await?,
        };
        self.bulk = flow::is_bulk(step);
        Ok(step)
    }

    /// Writes all of `bytes` to the fifo. Waits for space.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        flow::write_all(&self.both_ends, bytes).await
    }

    /// Closes the fifo as soon as a client has opened it or has read all output. The kernel drops
    /// the contents of a fifo when its last descriptor is closed, so without this wait a late
    /// client would receive nothing.
    ///
    /// Closes the fifo at once if it is empty, and at the latest [`LINGER`] after the
    /// [`ProcessIo`](super::ProcessIo) was dropped.
    pub(super) async fn linger(self, mut phase: PhaseReceiver) {
        let both_ends = self.both_ends.into_inner();
        if !sys::fd::bytes_waiting(&both_ends).is_ok_and(|bytes| bytes > 0) {
            return;
        }
        // The shim's own read end would count as a reader in the check below.
        let write = {
            let _reserve = nofile::reserve();
            let Ok(write) = same_fifo(&both_ends, OFlag::O_WRONLY) else { return };
            drop(both_ends);
            write
        };
        let is_unread = || sys::fd::bytes_waiting(&write).is_ok_and(|bytes| bytes > 0);
        // poll(2) reports an error (POLLERR) on a write end that has no reader.
        let has_no_reader = || flow::is_ready(&write, PollFlags::empty());
        let mut interval = READER_CHECK_INTERVAL.0;
        let mut until = None;
        while is_unread() && has_no_reader() && until.is_none_or(|until| Instant::now() < until) {
            select! {
                () = phase.closed(), if until.is_none() => until = Some(Instant::now() + LINGER),
                () = sleep(interval) => interval = (interval * 2).min(READER_CHECK_INTERVAL.1),
            }
        }
    }
}

/// Opens the fifo that a client writes a process's input to. Returns the read end and a write end
/// for the shim. While that write end is open, the input does not end when a client disconnects.
pub(super) fn open_input(path: &Path) -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let read = open(path, OFlag::O_RDONLY | FIFO_FLAGS, Mode::empty())?;
    let write = same_fifo(&read, OFlag::O_WRONLY)?;
    Ok((sys::watched(read, Interest::READABLE)?, write))
}

/// Whether `path` is a fifo. Follows symbolic links, because containerd creates them.
pub(super) fn is_fifo(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.file_type().is_fifo())
}

/// The flags of every open(2) of a fifo, besides the access mode.
const FIFO_FLAGS: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// Opens another end of an open fifo, through its descriptor and not by its path, which may now be
/// another file.
fn same_fifo(fifo: &OwnedFd, access: OFlag) -> io::Result<OwnedFd> {
    check_is_fifo(fifo)?;
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    Ok(open(path.as_str(), access | FIFO_FLAGS, Mode::empty())?)
}

/// Fails with `InvalidInput` if an open file is not a fifo.
fn check_is_fifo(file: &OwnedFd) -> io::Result<()> {
    match SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a fifo")),
    }
}
