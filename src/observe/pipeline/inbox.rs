//! How the shim's async thread speaks to the observer's own: a list and a bell.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Mutex, PoisonError},
};

use crate::platform::Waker;

/// A list that one thread adds to and another takes whole.
///
/// Not bounded by itself: what is put in comes from containerd's requests, a handful each, and a
/// reader that is gone has closed it.
#[derive(Debug)]
pub(in crate::observe) struct Mailbox<T> {
    letters: Mutex<Option<Vec<T>>>,
    waker: Waker,
}

impl<T> Mailbox<T> {
    /// # Errors
    ///
    /// What [`Waker::new`] answered.
    pub(in crate::observe) fn new() -> io::Result<Self> {
        Ok(Self { letters: Mutex::new(Some(Vec::new())), waker: Waker::new()? })
    }

    /// Gives the letter back where nobody reads any more.
    pub(in crate::observe) fn put(&self, letter: T) -> Result<(), T> {
        {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(letters) = letters.as_mut() else { return Err(letter) };
            letters.push(letter);
        }
        self.waker.wake();
        Ok(())
    }

    /// All there is, and the bell is still again.
    pub(in crate::observe) fn take(&self) -> Vec<T> {
        self.waker.clear();
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nobody reads any more; answers with what nobody will.
    pub(in crate::observe) fn close(&self) -> Vec<T> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Readable when there are letters.
    pub(in crate::observe) fn bell(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}
