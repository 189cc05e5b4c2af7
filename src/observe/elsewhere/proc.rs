//! What is known of processes that no source told of: nothing.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use super::unsupported;
use crate::{
    model::{Grade, Image, ProcessKey, Unknown},
    observe::{
        record::{FileId, Record, TargetId},
        source::Target,
    },
    sys::Bell,
};

/// Why a look could not be had. No record then: an incomplete look would declare the living dead.
#[derive(Debug, thiserror::Error)]
#[error("failed to look at the target's processes")]
pub struct LookError(#[from] io::Error);

/// # Errors
///
/// Always.
pub(in crate::observe) fn look_after(
    _id: TargetId,
    _target: &Target,
    _known: &[ProcessKey],
) -> Result<Vec<Record>, LookError> {
    Err(unsupported("the processes of this system are not looked at").into())
}

/// Every process of the node.
///
/// # Errors
///
/// `Unsupported`, always.
pub fn pids() -> io::Result<Vec<i32>> {
    Err(unsupported("the processes of this system are not listed"))
}

/// Who has this pid now: not known.
#[must_use]
pub fn identify(_pid: i32) -> Option<ProcessKey> {
    None
}

/// What a process runs now: nobody here can see it.
#[must_use]
pub fn image(_pid: i32, _key: ProcessKey) -> (Image, Grade) {
    (Image { unknown: Some(Unknown::NotSeen), ..Image::default() }, Grade::Partial)
}

/// Who holds an output open, as far as that is known.
#[must_use]
pub fn holders(_outputs: [Option<FileId>; 2], _among: &[ProcessKey]) -> Vec<ProcessKey> {
    Vec::new()
}

/// Who holds which socket, as far as that is known.
#[must_use]
pub fn socket_holders(_among: &[ProcessKey]) -> HashMap<u64, Vec<ProcessKey>> {
    HashMap::new()
}

/// Asked whether a dead process is reaped, it takes no question: such a process is done when its
/// target ends.
#[derive(Debug)]
pub struct Reaped {
    /// Never rung.
    bell: Bell,
}

impl Reaped {
    /// Nothing asked yet.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Bell::new().map(|bell| Self { bell })
    }

    /// Refused.
    #[must_use]
    pub fn ask(&mut self, _key: ProcessKey) -> bool {
        false
    }

    /// Never readable.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Never.
    #[must_use]
    pub fn again_after(&self) -> Option<Duration> {
        None
    }

    /// None.
    pub fn answers(&mut self, _sink: &mut dyn FnMut(ProcessKey)) {}
}
