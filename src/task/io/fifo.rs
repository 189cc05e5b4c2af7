//! A client's fifos: opened without waiting for the client, kept open while clients come and go.
//!
//! Both ends are held. So no open waits for the other side, the process never gets `SIGPIPE`
//! because a client left, and a client that comes back (a restarted containerd) reads on. The
//! price: while nobody reads, the fifo and the pipe behind it fill (64 KiB each) and the process
//! blocks in its write(2). That is the policy; bytes of a living process are never thrown away.
//!
//! Both pipes keep the size that the kernel gives them. With 256 KiB each, a gibibyte passes in 0.3
//! s instead of 0.7 s, but the pages count against a limit of all of root's pipes
//! (`pipe-user-pages-soft`, 64 MiB), beyond which every new pipe of a container's root gets two
//! pages; and 0.7 s is what the same fifo takes without a shim.

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

/// How long what was written waits for a reader after its process was deleted.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// How often it is looked whether a reader came, first and at last: the kernel tells a writer
/// nothing of it (`fifo_open`, Linux 6.18, wakes blocked openers only).
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// The fifo that a client reads an output from.
#[derive(Debug)]
pub(super) struct Fifo {
    write: AsyncFd<OwnedFd>,
    /// Never read from: it keeps the fifo from being broken.
    read: OwnedFd,
    /// Whether the last step moved much.
    bulk: bool,
}

impl Fifo {
    pub(super) fn open(path: &Path) -> io::Result<Fifo> {
        let read = open(path, OFlag::O_RDONLY | FLAGS, Mode::empty())?;
        let write = same_fifo(&read, OFlag::O_WRONLY)?;
        Ok(Fifo { write: sys::watched(write, Interest::WRITABLE)?, read, bulk: false })
    }

    /// Moves what a pipe has, at most `most` bytes. Waits for room, never for bytes.
    pub(super) async fn draw(
        &mut self,
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        most: usize,
    ) -> io::Result<Step> {
        let step = match self.bulk {
            true => flow::splice(from, &self.write, most).await?,
            false => flow::copy(from, &self.write, most).await?,
        };
        self.bulk = flow::is_bulk(step);
        Ok(step)
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        flow::write_all(&self.write, bytes).await
    }

    /// Closes the fifo, once a client has it open or has read it all. What is in a fifo lives only
    /// as long as somebody holds it: without this wait, a client that comes late finds nothing.
    ///
    /// At once where nothing is unread; [`LINGER`] after the close of all in any case.
    pub(super) async fn linger(self, mut life: Life) {
        let Fifo { write, read, .. } = self;
        drop(read);
        let is_unread = || sys::fd::bytes_waiting(write.get_ref()).is_ok_and(|bytes| bytes > 0);
        // A write end without any reader is in error.
        let has_no_reader = || flow::is_ready(write.get_ref(), PollFlags::empty());
        let mut look = LOOK.0;
        let mut until = None;
        while is_unread() && has_no_reader() && until.is_none_or(|until| Instant::now() < until) {
            select! {
                () = life.closed(), if until.is_none() => until = Some(Instant::now() + LINGER),
                () = sleep(look) => look = (look * 2).min(LOOK.1),
            }
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
