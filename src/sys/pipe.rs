//! Moving bytes between pipes without copying them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// Moves at most `most` bytes from one pipe (or fifo) to another: pages change hands, nothing is
/// copied. Never blocks, whatever the flags of the two descriptions are. 0 is the end of `from`.
///
/// # Errors
///
/// [`io::ErrorKind::WouldBlock`] when `from` is empty *or* `to` is full: splice(2) does not tell
/// which. `EPIPE` when nobody reads `to`.
pub fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: two open descriptors; null offsets, as pipes demand.
    let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}
