//! A client's fifos: opened without waiting for the client, kept open while clients come and go.
//!
//! Both ends are held. So no open waits for the other side, the process never gets `SIGPIPE` because a
//! client left, and a client that comes back (a restarted containerd) reads on. The price: while
//! nobody reads, the fifo and the pipe behind it fill (64 KiB each) and the process blocks in its
//! write(2). That is the policy; bytes of a living process are never thrown away.

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
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep},
};

use super::flow;
use crate::sys;

/// How long what was written waits for a reader after the end of the output.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// How often it is looked whether a reader came: the kernel tells a writer nothing of it (`fifo_open`
/// wakes blocked openers only).
const LOOK: Duration = Duration::from_millis(20);

/// The fifo that a client reads an output from.
#[derive(Debug)]
pub(super) struct Fifo {
    pub(super) write: AsyncFd<OwnedFd>,
    /// Never read from: it keeps the fifo from being broken.
    read: OwnedFd,
}

impl Fifo {
    pub(super) fn open(path: &Path) -> io::Result<Fifo> {
        let read = open(path, OFlag::O_RDONLY | FLAGS, Mode::empty())?;
        let write = same_fifo(&read, OFlag::O_WRONLY)?;
        Ok(Fifo { write: sys::watched(write, Interest::WRITABLE)?, read })
    }

    /// Closes the fifo, once a client has it open or has read it all. What is in a fifo lives only as
    /// long as somebody holds it: without this wait, a client that comes late finds nothing.
    ///
    /// At once where nothing is unread; after [`LINGER`] in any case.
    pub(super) async fn linger(self) {
        let Fifo { write, read } = self;
        drop(read);
        let until = Instant::now() + LINGER;
        let is_unread = || sys::fd::bytes_waiting(write.get_ref()).is_ok_and(|bytes| bytes > 0);
        // A write end without any reader is in error.
        let has_no_reader = || flow::is_ready(write.get_ref(), PollFlags::empty());
        while is_unread() && has_no_reader() && Instant::now() < until {
            sleep(LOOK).await;
        }
    }
}

/// The two ends of the fifo that a client writes a process's input to: the one to read from, and a
/// writer of our own. While the writer lives, a client's leaving is not the end of the input.
pub(super) fn open_input(path: &Path) -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let read = open(path, OFlag::O_RDONLY | FLAGS, Mode::empty())?;
    let write = same_fifo(&read, OFlag::O_WRONLY)?;
    Ok((sys::watched(read, Interest::READABLE)?, write))
}

/// Whether there is a fifo at `path`, following symbolic links: containerd makes them.
pub(super) fn is_fifo(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.file_type().is_fifo())
}

const FLAGS: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// Another end of an open fifo: of the very one, whatever its path means by now.
fn same_fifo(fifo: &OwnedFd, access: OFlag) -> io::Result<OwnedFd> {
    if !std::fs::File::from(fifo.try_clone()?).metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a fifo"));
    }
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    Ok(open(path.as_str(), access | FLAGS, Mode::empty())?)
}
