//! Registers descriptors with the epoll of the async runtime.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers `fd` with the epoll of the async runtime, edge-triggered. `fd` should be non-blocking.
///
/// # Errors
///
/// `EPERM` for a descriptor that epoll does not support, such as a regular file; `ENOMEM`, `ENOSPC`
/// at the limits of epoll(7).
///
/// # Panics
///
/// Panics outside a tokio runtime.
pub fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd stays open, under one number, until the AsyncFd that now owns it is
    // dropped.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
