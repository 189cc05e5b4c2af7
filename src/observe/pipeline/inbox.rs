//! How the shim's async thread speaks to the observer's own: a list and a waker.

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
pub(in crate::observe) struct Inbox<T> {
    messages: Mutex<Option<Vec<T>>>,
    waker: Waker,
}

impl<T> Inbox<T> {
    /// # Errors
    ///
    /// What [`Waker::new`] answered.
    pub(in crate::observe) fn new() -> io::Result<Self> {
        Ok(Self { messages: Mutex::new(Some(Vec::new())), waker: Waker::new()? })
    }

    /// Gives the message back where nobody reads any more.
    pub(in crate::observe) fn put(&self, message: T) -> Result<(), T> {
        {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(messages) = messages.as_mut() else { return Err(message) };
            messages.push(message);
        }
        self.waker.wake();
        Ok(())
    }

    /// All there is, and the waker is still again.
    pub(in crate::observe) fn take(&self) -> Vec<T> {
        self.waker.clear();
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nobody reads any more; answers with what nobody will.
    pub(in crate::observe) fn close(&self) -> Vec<T> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Readable when there are messages.
    pub(in crate::observe) fn waker(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}
