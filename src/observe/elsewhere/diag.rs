//! Which sockets there are: nobody is asked.

use std::{io, os::fd::BorrowedFd};

use super::unsupported;
pub(in crate::observe) use crate::observe::ports::{Found, State};

const NO_LIST: &str = "the sockets of this system are not listed";

/// # Errors
///
/// Always.
pub(in crate::observe) fn sockets(_pid: i32, _inode: u32, _state: State) -> io::Result<Vec<Found>> {
    Err(unsupported(NO_LIST))
}

/// # Errors
///
/// Always.
pub(in crate::observe) fn namespace_of(_pid: i32) -> io::Result<u32> {
    Err(unsupported(NO_LIST))
}

/// # Errors
///
/// Always.
pub(in crate::observe) fn own_namespace() -> io::Result<u32> {
    Err(unsupported(NO_LIST))
}

/// Says that a listener is gone: there is none.
#[derive(Debug)]
pub(in crate::observe) enum Destroyed {}

impl Destroyed {
    /// # Errors
    ///
    /// Always.
    pub(in crate::observe) fn listen(_pid: i32, _inode: u32) -> io::Result<Self> {
        Err(unsupported(NO_LIST))
    }

    pub(in crate::observe) fn fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(in crate::observe) fn heard(&self) -> bool {
        match *self {}
    }
}
