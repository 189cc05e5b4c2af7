//! Processes, which cannot be read on this system: only those that a source reports are known.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use super::{Waker, unsupported};
use crate::model::{FileId, Grade, Image, Lineage, ProcessKey, UnknownReason};

const NO_LIST: &str = "the processes of this system cannot be listed";

/// A living process. On this system there is no value of this type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// The identity of the process.
    pub key: ProcessKey,
    /// The parent and grandparent of the process when it was read.
    pub lineage: Lineage,
    /// What the process ran when it was read.
    pub image: Image,
}

/// A living process with its image. Always `None`.
#[must_use]
pub fn alive(_pid: i32) -> Option<Alive> {
    None
}

/// A process that is ending and still has a running thread. Always `None`.
#[must_use]
pub fn ending(_pid: i32) -> Option<Alive> {
    None
}

/// Would return the pids of all processes.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn pids() -> io::Result<Vec<i32>> {
    Err(unsupported(NO_LIST))
}

/// Would return the descendants of a process.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn of_tree(_root: i32, _known: &[ProcessKey]) -> io::Result<Vec<i32>> {
    Err(unsupported(NO_LIST))
}

/// The identity of the process with this pid. Always `None`.
#[must_use]
pub fn identify(_pid: i32) -> Option<ProcessKey> {
    None
}

/// When a process started. Always `None`.
#[must_use]
pub fn start_ticks(_pid: i32) -> Option<u64> {
    None
}

/// The inode number of the pid namespace of a process. Always `None`.
#[must_use]
pub fn pid_namespace(_pid: i32) -> Option<u32> {
    None
}

/// What a process runs. Always an image without known fields, with the reason
/// [`UnknownReason::NotSeen`].
#[must_use]
pub fn image(_pid: i32, _key: ProcessKey) -> (Image, Grade) {
    (Image { unknown: Some(UnknownReason::NotSeen), ..Image::default() }, Grade::Partial)
}

/// A search for the processes that hold a file open, which finds none.
#[derive(Debug)]
pub struct HolderSearch;

impl HolderSearch {
    /// A search that is complete.
    #[must_use]
    pub fn new(_files: HashSet<FileId>, _among: Vec<ProcessKey>) -> Self {
        Self
    }

    /// Returns that the search is complete.
    pub fn advance(&mut self, _until: Instant) -> bool {
        true
    }

    /// The holders that were found. Always empty.
    #[must_use]
    pub fn into_holders(self) -> Vec<(ProcessKey, FileId)> {
        Vec::new()
    }
}

/// The processes that hold each socket. Always empty.
#[must_use]
pub fn socket_holders(_among: &[ProcessKey]) -> (HashMap<u64, Vec<ProcessKey>>, bool) {
    (HashMap::new(), true)
}

/// Queries about the reaping of processes. Every query is refused, so a process is done when its
/// target ends.
#[derive(Debug)]
pub struct ReapedQueries {
    /// Provides the descriptor, which never becomes readable.
    waker: Waker,
}

impl ReapedQueries {
    /// Creates an instance that accepts no queries.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE` without a free descriptor, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Waker::new().map(|waker| Self { waker })
    }

    /// Always `false`: the query is refused.
    #[must_use]
    pub fn ask(&mut self, _key: ProcessKey) -> bool {
        false
    }

    /// Does nothing: there are no queries.
    pub fn shrink(&mut self) {}

    /// A descriptor that is never readable.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }

    /// When to call [`answers`](Self::answers). Always `None`.
    #[must_use]
    pub fn next_check_after(&self) -> Option<Duration> {
        None
    }

    /// Passes no process to the sink.
    pub fn answers(&mut self, _sink: &mut dyn FnMut(ProcessKey)) {}
}
