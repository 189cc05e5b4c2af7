//! Descriptors: taking them over, asking about them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd},
};

/// Takes over a descriptor that this process inherited by number.
///
/// # Errors
///
/// `EBADF` where nothing is open under that number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads a flag; any number is allowed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and by the contract of the handover nobody else in this
    // process uses that number: it is called once, before the runtime starts.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the descriptor is ours and open.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// The next connection that waits on a listening socket, non-blocking and closed on exec.
///
/// # Errors
///
/// What accept4(2) answered: `EAGAIN` where none waits.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4};
    let number =
        accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The bytes that wait in a pipe, fifo or socket (`FIONREAD`).
///
/// # Errors
///
/// `ENOTTY` for what cannot tell.
pub fn bytes_waiting(fd: impl AsFd) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through a valid pointer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &mut waiting) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(waiting).unwrap_or(0))
}
