//! Moves bytes from descriptor to descriptor, without blocking and without losing a wake-up.
//!
//! tokio uses edge-triggered epoll. A readiness may be cleared only after the kernel itself
//! answered "would block", and only the readiness of that descriptor. But splice(2) does not report
//! which of its two ends would block, so poll(2) is called afterwards: an end that is not ready
//! *then* causes an edge when it becomes ready *later*. No wake-up is lost between the two calls:
//! any later event sets a cleared readiness again (tokio counts driver ticks), and the driver does
//! not run in between.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::sys;

/// Bytes that a stream may move before it yields to other tasks: about a millisecond's worth.
const YIELD_AFTER: usize = 1 << 20;

/// Bytes to request of one splice(2) at most. By default limits no pipe holds more.
const MAX_SPLICE: usize = 1 << 20;

/// The result of moving bytes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This number of bytes was moved.
    Moved(usize),
    /// The source is empty now, and its readiness was cleared.
    Dry,
    /// The source has ended.
    End,
}

/// Counts the bytes that a stream has moved since it last yielded.
#[derive(Debug, Default)]
pub(super) struct Budget(usize);

impl Budget {
    /// Adds to the count, and yields to other tasks once it reaches [`YIELD_AFTER`].
    pub(super) async fn spend(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= YIELD_AFTER {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The size of a page. Small writes to a pipe share a page; a spliced page is never added to.
const PAGE: usize = 4 << 10;

/// Copies what a pipe has, at most a page, into another pipe. Waits for space, never for bytes.
///
/// Meant for small amounts. A pipe has 16 slots. A spliced line takes a slot of its own, while a
/// written line is appended to the last page (`pipe_write`, Linux 6.18). Sixteen short lines must
/// not fill a client's fifo.
pub(super) async fn copy(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    max: usize,
) -> io::Result<Step> {
    // The buffer is on the stack, and only during this call: an idle stream has none.
    let (step, rest) = copy_now(from, to, max.min(PAGE))?;
    write_all(to, &rest).await?;
    Ok(step)
}

/// Whether a step moved so many bytes that the next one should be a [`splice`] and not a [`copy`].
pub(super) fn is_bulk(step: Step) -> bool {
    matches!(step, Step::Moved(count) if count >= PAGE)
}

/// Copies without waiting. Also returns the bytes that did not fit.
fn copy_now(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    max: usize,
) -> io::Result<(Step, Vec<u8>)> {
    let mut page = [0; PAGE];
    let step = read(from, &mut page[..max])?;
    let Step::Moved(count) = step else { return Ok((step, Vec::new())) };
    // An error counts as nothing written: the caller writes the rest, and receives the error there.
    let written = nix::unistd::write(to.get_ref(), &page[..count]).unwrap_or(0);
    Ok((step, page[written..count].to_vec()))
}

/// Moves what a pipe has, at most `max` bytes, into another pipe. Waits for space. Does not wait
/// for bytes: the caller has done that. Cancel safe.
pub(super) async fn splice(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    max: usize,
) -> io::Result<Step> {
    loop {
        let mut room = to.writable().await?;
        match sys::pipe::splice(from.get_inner(), to.get_ref(), max.min(MAX_SPLICE)) {
            Ok(0) => return Ok(Step::End),
            Ok(moved) => return Ok(Step::Moved(moved)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let has_room = is_ready(to.get_ref(), PollFlags::POLLOUT);
                // Only an end that would block may be cleared, see the module documentation.
                if !has_room {
                    room.clear_ready();
                }
                if !is_ready(from.get_inner(), PollFlags::POLLIN) {
                    from.clear_ready();
                    // An edge follows when bytes arrive, so the caller can wait for readiness.
                    return Ok(Step::Dry);
                }
                if has_room {
                    // Both ends are ready now, although the kernel refused. Yields first, in case
                    // it refuses again.
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads what is available into `buffer`.
pub(super) fn read(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    buffer: &mut [u8],
) -> io::Result<Step> {
    match read_now(from.get_inner(), buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            from.clear_ready();
            Ok(Step::Dry)
        }
        Err(error) => Err(error),
        Ok(0) => Ok(Step::End),
        Ok(count) => Ok(Step::Moved(count)),
    }
}

/// read(2), repeated when a signal interrupts it.
pub(super) fn read_now(from: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(from.as_fd(), buffer) {
            Err(nix::Error::EINTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Writes all of `bytes`, and waits for the reader as long as that takes. Not cancel safe.
pub(super) async fn write_all(to: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut room = to.writable().await?;
        match nix::unistd::write(room.get_inner(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => room.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether poll(2) reports one of `events`, an error or a hang-up now.
pub(super) fn is_ready(fd: impl AsFd, events: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    // If poll(2) fails (no memory), the readiness stays set. That costs one more try, but loses no
    // wake-up.
    poll(&mut fds, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
}

/// Sets or clears `O_NONBLOCK`. The flag belongs to the open file description, so this must never
/// be called for an end that a container shares.
pub(super) fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let mut flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags))?;
    Ok(())
}
