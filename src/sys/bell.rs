//! What wakes a thread that waits in poll(2), rung by any other.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::eventfd::eventfd;

/// Readable from when it is rung until it is stilled; rung often, it has rung once.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A still one.
    ///
    /// # Errors
    ///
    /// What eventfd(2) answered.
    pub fn new() -> io::Result<Self> {
        eventfd().map(Self)
    }

    /// Never waits.
    pub fn ring(&self) {
        // A full counter has rung already.
        let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Never waits; still it stays so.
    pub fn still(&self) {
        let _ = nix::unistd::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
