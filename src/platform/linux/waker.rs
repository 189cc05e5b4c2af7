//! Wakes a thread that waits in poll(2) or epoll_wait(2), by an eventfd.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::sys::eventfd::eventfd;

/// A descriptor that is readable from [`wake`](Self::wake) until [`clear`](Self::clear). Several
/// wakes before a clear count as one.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// Creates a waker that is not readable.
    ///
    /// # Errors
    ///
    /// The error of eventfd(2): `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        eventfd().map(Self)
    }

    /// Makes the descriptor readable. Never blocks.
    pub fn wake(&self) {
        // EAGAIN means that the counter is full, so the descriptor is already readable.
        let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable. Never blocks, even if the descriptor was not readable.
    pub fn clear(&self) {
        let _ = nix::unistd::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
