//! Moves bytes from descriptor to descriptor, without blocking and without losing a wake-up.
//!
//! tokio uses edge-triggered epoll. The readiness of a descriptor may be cleared only after a
//! system call on that descriptor has returned "would block". But splice(2) does not report which
//! of its two ends would block, so poll(2) is called after it: an end that is not ready at the poll
//! causes an edge when it becomes ready later. No wake-up is lost between the two calls, because
//! tokio's driver does not run between them, and any later event sets a cleared readiness again
//! (tokio counts driver ticks).

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::sys;

/// The number of bytes that a stream may move before it yields to other async tasks. Moving them
/// takes about a millisecond.
const YIELD_AFTER_BYTES: usize = 1 << 20;

/// The largest number of bytes to request of one splice(2). With the kernel's default limits no
/// pipe holds more.
const MAX_SPLICE: usize = 1 << 20;

/// The result of one attempt to move bytes from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This number of bytes was moved.
    Moved(usize),
    /// The source is empty, and its readiness was cleared.
    Dry,
    /// The source has ended.
    End,
}

/// Counts the bytes that a stream has moved since it last yielded.
#[derive(Debug, Default)]
pub(super) struct YieldBudget(usize);

impl YieldBudget {
    /// Adds `bytes` to the count. Yields to other async tasks and resets the count once it reaches
    /// [`YIELD_AFTER_BYTES`].
    pub(super) async fn spend(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= YIELD_AFTER_BYTES {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The size of a page. Small writes to a pipe share a page; nothing is ever appended to a spliced
/// page.
const PAGE_SIZE: usize = 4 << 10;

/// Copies the bytes that are in a pipe, at most a page, into another pipe. Waits for space, never
/// for bytes.
///
/// For small amounts of output. A pipe has 16 slots. A spliced line takes a slot of its own, while
/// a written line is appended to the last page (`pipe_write`, Linux 6.18). Sixteen short lines must
/// not fill a client's fifo.
pub(super) async fn copy(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    max: usize,
) -> io::Result<Step> {
    // The buffer is on the stack of this call, so an idle stream has no buffer.
    let (step, rest) = copy_now(from, to, max.min(PAGE_SIZE))?;
    write_all(to, &rest).await?;
    Ok(step)
}

/// Whether a step moved so many bytes that the next one should be a [`splice`] and not a [`copy`].
pub(super) fn is_bulk(step: Step) -> bool {
    matches!(step, Step::Moved(count) if count >= PAGE_SIZE)
}

/// Copies without waiting. Also returns the bytes that did not fit.
fn copy_now(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    max: usize,
) -> io::Result<(Step, Vec<u8>)> {
    let mut page = [0; PAGE_SIZE];
    let step = read(from, &mut page[..max])?;
    let Step::Moved(count) = step else { return Ok((step, Vec::new())) };
    // After an error no byte counts as written. The caller then writes all bytes and receives the
    // error from that write.
    let written = nix::unistd::write(to.get_ref(), &page[..count]).unwrap_or(0);
    Ok((step, page[written..count].to_vec()))
}

/// Moves the bytes that are in a pipe, at most `max`, into another pipe. Waits for space, but not
/// for bytes, for which the caller has waited. Cancel safe.
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
                // Only the readiness of an end that would block may be cleared, see the module
                // documentation.
                if !has_room {
                    room.clear_ready();
                }
                if !is_ready(from.get_inner(), PollFlags::POLLIN) {
                    from.clear_ready();
                    // epoll reports an edge when bytes arrive, so the caller can wait for
                    // readiness.
                    return Ok(Step::Dry);
                }
                if has_room {
                    // Both ends are ready now, although splice(2) would have blocked. The loop
                    // yields before it retries, in case splice(2) fails in the same way again.
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

/// Writes all of `bytes`, and waits for the reader without a limit. Not cancel safe.
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

/// Whether poll(2) currently reports one of `events`, an error or a hang-up.
pub(super) fn is_ready(fd: impl AsFd, events: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    // If poll(2) fails (no memory), the readiness stays set. This costs one more attempt, but loses
    // no wake-up.
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
