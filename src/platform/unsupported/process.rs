//! Processes: no process is known that no source has reported.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use super::{Waker, unsupported};
use crate::model::{FileId, Grade, Image, Lineage, ProcessKey, Unknown};

const NO_LIST: &str = "the processes of this system are not listed";

/// A living process. There is never one here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Its identity.
    pub key: ProcessKey,
    /// Its place in its tree.
    pub lineage: Lineage,
    /// What it runs.
    pub image: Image,
}

/// Always `None`.
#[must_use]
pub fn alive(_pid: i32) -> Option<Alive> {
    None
}

/// # Errors
///
/// `Unsupported`, always.
pub fn pids() -> io::Result<Vec<i32>> {
    Err(unsupported(NO_LIST))
}

/// # Errors
///
/// `Unsupported`, always.
pub fn of_tree(_root: i32, _known: &[ProcessKey]) -> io::Result<Vec<i32>> {
    Err(unsupported(NO_LIST))
}

/// Always `None`.
#[must_use]
pub fn identify(_pid: i32) -> Option<ProcessKey> {
    None
}

/// Always `None`.
#[must_use]
pub fn start_ticks(_pid: i32) -> Option<u64> {
    None
}

/// Nothing is known of what a process runs.
#[must_use]
pub fn image(_pid: i32, _key: ProcessKey) -> (Image, Grade) {
    (Image { unknown: Some(Unknown::NotSeen), ..Image::default() }, Grade::Partial)
}

/// No process is known to hold an output open.
#[must_use]
pub fn holders(_outputs: [Option<FileId>; 2], _among: &[ProcessKey]) -> Vec<ProcessKey> {
    Vec::new()
}

/// No process is known to hold a socket.
#[must_use]
pub fn socket_holders(_among: &[ProcessKey]) -> HashMap<u64, Vec<ProcessKey>> {
    HashMap::new()
}

/// Takes no question, so a process is done when its target ends.
#[derive(Debug)]
pub struct Reaped {
    /// Never woken.
    waker: Waker,
}

impl Reaped {
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Waker::new().map(|waker| Self { waker })
    }

    /// Always `false`: the question is refused.
    #[must_use]
    pub fn ask(&mut self, _key: ProcessKey) -> bool {
        false
    }

    /// Never readable.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }

    /// Always `None`.
    #[must_use]
    pub fn again_after(&self) -> Option<Duration> {
        None
    }

    /// There are no answers.
    pub fn answers(&mut self, _sink: &mut dyn FnMut(ProcessKey)) {}
}
