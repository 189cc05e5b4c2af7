//! Descriptors: takes over an inherited one, accepts a connection, counts readable bytes.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd},
};

/// Takes ownership of a descriptor that this process inherited under a known number, and makes it
/// close-on-exec.
///
/// # Errors
///
/// `EBADF` if no descriptor with that number is open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads a flag; any number is allowed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. No other code of this process owns that number, because
    // `start` passes the descriptor for this purpose, and this function is called once, before the
    // async runtime starts.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the descriptor is ours and open.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Accepts the next pending connection of a listening socket, non-blocking and close-on-exec.
///
/// # Errors
///
/// The error of accept4(2): `EAGAIN` if no connection is pending.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4};
    let number =
        accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just created this descriptor, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The number of bytes that can be read from a pipe, fifo or socket (`FIONREAD`).
///
/// # Errors
///
/// `ENOTTY` if the descriptor does not support this.
pub fn bytes_waiting(fd: impl AsFd) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through a valid pointer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &mut waiting) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(waiting).unwrap_or(0))
}
