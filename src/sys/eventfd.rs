//! Descriptors of counters that the kernel can increment (eventfd(2)).

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// Creates an eventfd with the value 0, non-blocking and close-on-exec.
///
/// # Errors
///
/// `EMFILE` or `ENFILE` without a free descriptor, `ENOMEM`.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes two numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
