//! A counter that the kernel raises (eventfd(2)).

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// Makes a counter of 0 that neither blocks nor outlives an exec.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes two numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
