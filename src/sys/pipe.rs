//! Moving bytes between pipes without copying them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// Moves at most `most` bytes from one pipe or fifo to another, by moving pages instead of copying
/// bytes. Never blocks, even if both descriptors are blocking. Returns the number of bytes; 0 means
/// that `from` has ended.
///
/// # Errors
///
/// [`io::ErrorKind::WouldBlock`] if `from` is empty *or* `to` is full: splice(2) does not report
/// which. `EPIPE` if `to` has no reader.
pub fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: both descriptors are open, and the offsets are null as pipes require.
    let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}
