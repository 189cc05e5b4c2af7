//! Bytes from descriptor to descriptor, without blocking and without losing a wake-up.
//!
//! epoll is edge-triggered under tokio: a readiness may only be given up after the kernel itself
//! said "would block", and only that one. splice(2) does not say whose fault it was, so poll(2) is
//! asked: whichever end is not ready *then* makes an edge when it becomes ready *later*. No wake-up
//! falls between the two, because a cleared readiness is set again by any later event (tokio's
//! tick), and the driver does not run while we look.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::sys;

/// Bytes that a stream may move before others get their turn: about a millisecond's worth.
const TURN: usize = 1 << 20;

/// The most that is asked of one splice(2): no pipe holds more by default limits.
const MOST: usize = 1 << 20;

/// What one step of a flow came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes went over.
    Moved(usize),
    /// The source has nothing now; its readiness is cleared.
    Dry,
    /// The source has ended.
    End,
}

/// Counts what a stream has moved since it last let others run.
#[derive(Debug, Default)]
pub(super) struct Turn(usize);

impl Turn {
    /// Adds to the count, and yields when the turn is over.
    pub(super) async fn spent(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= TURN {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The size of a page. One that is written piece by piece fills; one that is spliced stays as it
/// is.
const PAGE: usize = 4 << 10;

/// Copies what a pipe has, at most a page, into another. Waits for room, never for bytes.
///
/// For trickles: a pipe has room for 16 pieces, and a spliced line is a piece, while a written one
/// joins the line before it (`pipe_write`, Linux 6.18). Sixteen lines must not fill a client's
/// fifo.
pub(super) async fn copy(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    most: usize,
) -> io::Result<Step> {
    // The buffer is on the stack for this call alone: an idle stream has none.
    let (step, rest) = copy_now(from, to, most.min(PAGE))?;
    write_all(to, &rest).await?;
    Ok(step)
}

/// Whether a step moved so much that the next is worth a [`splice`] and not a [`copy`].
pub(super) fn is_bulk(step: Step) -> bool {
    matches!(step, Step::Moved(count) if count >= PAGE)
}

fn copy_now(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    most: usize,
) -> io::Result<(Step, Vec<u8>)> {
    let mut page = [0; PAGE];
    let step = read(from, &mut page[..most])?;
    let Step::Moved(count) = step else { return Ok((step, Vec::new())) };
    // What a full pipe does not take is for whoever can wait.
    let written = nix::unistd::write(to.get_ref(), &page[..count]).unwrap_or(0);
    Ok((step, page[written..count].to_vec()))
}

/// Moves what a pipe has, at most `most` bytes, into another. Waits for room, never for bytes:
/// those the caller waited for. Cancel safe.
pub(super) async fn splice(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    most: usize,
) -> io::Result<Step> {
    loop {
        let mut room = to.writable().await?;
        match sys::pipe::splice(from.get_inner(), to.get_ref(), most.min(MOST)) {
            Ok(0) => return Ok(Step::End),
            Ok(moved) => return Ok(Step::Moved(moved)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let has_room = is_ready(to.get_ref(), PollFlags::POLLOUT);
                if !has_room {
                    room.clear_ready();
                }
                if !is_ready(from.get_inner(), PollFlags::POLLIN) {
                    from.clear_ready();
                    return Ok(Step::Dry);
                }
                if has_room {
                    // Both became ready in between. Others first, in case the kernel means it.
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads what is there into `into`.
pub(super) fn read(from: &mut AsyncFdReadyGuard<'_, OwnedFd>, into: &mut [u8]) -> io::Result<Step> {
    match read_now(from.get_inner(), into) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            from.clear_ready();
            Ok(Step::Dry)
        }
        Err(error) => Err(error),
        Ok(0) => Ok(Step::End),
        Ok(count) => Ok(Step::Moved(count)),
    }
}

/// read(2), again when a signal interrupted it.
pub(super) fn read_now(from: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(from.as_fd(), into) {
            Err(nix::Error::EINTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Writes all of `bytes`, however long the reader takes. Not cancel safe.
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

/// Whether poll(2) shows one of `events`, an error or a hang-up now.
pub(super) fn is_ready(fd: impl AsFd, events: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    // A poll that fails (no memory) leaves the readiness as it was: one turn more, no lost wake-up.
    poll(&mut fds, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
}

/// Sets `O_NONBLOCK`: on the open file description, so never on an end that a container shares.
pub(super) fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let mut flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags))?;
    Ok(())
}
