//! The list of sockets, which cannot be read on this system.

use std::{io, os::fd::BorrowedFd};

use super::unsupported;
use crate::model::{ListedSocket, NetworkNamespace, SocketState};

const NO_LIST: &str = "the sockets of this system cannot be listed";

/// Would list the sockets of a network namespace.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn list(
    _pid: i32,
    _inode: u32,
    _state: SocketState,
) -> io::Result<(NetworkNamespace, Vec<ListedSocket>)> {
    Err(unsupported(NO_LIST))
}

/// Would return the network namespace of a process.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn namespace_of(_pid: i32) -> io::Result<u32> {
    Err(unsupported(NO_LIST))
}

/// Would return the cookie of a network namespace.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn cookie_of(_pid: i32, _inode: u32) -> io::Result<u64> {
    Err(unsupported(NO_LIST))
}

/// Would return the network namespace of this process.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn own_namespace() -> io::Result<u32> {
    Err(unsupported(NO_LIST))
}

/// Notifications of destroyed listeners. There is no value of this type on this system.
#[derive(Debug)]
pub enum DestroyedListeners {}

impl DestroyedListeners {
    /// Would subscribe to a network namespace.
    ///
    /// # Errors
    ///
    /// `Unsupported`, always.
    pub fn listen(_pid: i32, _inode: u32) -> io::Result<Self> {
        Err(unsupported(NO_LIST))
    }

    /// Would be readable when a listener was destroyed. Cannot be called.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    /// Would return whether a listener was destroyed since the last call. Cannot be called.
    #[must_use]
    pub fn take(&self) -> bool {
        match *self {}
    }
}
