//! The list of sockets: this system is not asked.

use std::{io, os::fd::BorrowedFd};

use super::unsupported;
use crate::model::{ListedSocket, SocketState};

const NO_LIST: &str = "the sockets of this system are not listed";

/// # Errors
///
/// `Unsupported`, always.
pub fn list(_pid: i32, _inode: u32, _state: SocketState) -> io::Result<Vec<ListedSocket>> {
    Err(unsupported(NO_LIST))
}

/// # Errors
///
/// `Unsupported`, always.
pub fn namespace_of(_pid: i32) -> io::Result<u32> {
    Err(unsupported(NO_LIST))
}

/// # Errors
///
/// `Unsupported`, always.
pub fn own_namespace() -> io::Result<u32> {
    Err(unsupported(NO_LIST))
}

/// Cannot be made on this system.
#[derive(Debug)]
pub enum DestroyedListeners {}

impl DestroyedListeners {
    /// # Errors
    ///
    /// `Unsupported`, always.
    pub fn listen(_pid: i32, _inode: u32) -> io::Result<Self> {
        Err(unsupported(NO_LIST))
    }

    /// Readable when a listener was destroyed.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    /// Whether any listener was destroyed since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        match *self {}
    }
}
