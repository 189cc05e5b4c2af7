//! The inbox through which other threads send messages to the observer thread.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Mutex, PoisonError},
};

use crate::platform::Waker;

/// A list of messages with a waker. Any thread adds messages, one thread takes all of them at once.
///
/// The list is not bounded: each request of containerd adds only a few messages, and a reader
/// closes the inbox when it ends.
#[derive(Debug)]
pub(in crate::observe) struct Inbox<T> {
    /// `None` when the inbox is closed.
    messages: Mutex<Option<Vec<T>>>,
    waker: Waker,
}

impl<T> Inbox<T> {
    /// An empty inbox.
    ///
    /// # Errors
    ///
    /// The waker could not be made; see [`Waker::new`].
    pub(in crate::observe) fn new() -> io::Result<Self> {
        Ok(Self { messages: Mutex::new(Some(Vec::new())), waker: Waker::new()? })
    }

    /// Adds a message and wakes the reader.
    ///
    /// # Errors
    ///
    /// The message itself, if the inbox is closed.
    pub(in crate::observe) fn put(&self, message: T) -> Result<(), T> {
        {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(messages) = messages.as_mut() else { return Err(message) };
            messages.push(message);
        }
        // The lock is released before the wake-up, because the woken reader takes it at once.
        self.waker.wake();
        Ok(())
    }

    /// Takes all messages and clears the waker.
    pub(in crate::observe) fn take(&self) -> Vec<T> {
        // The waker is cleared before the list is taken: a message that arrives between the two
        // steps causes one wake-up too many instead of none.
        self.waker.clear();
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Closes the inbox: it accepts no further message. Returns those that were not taken.
    pub(in crate::observe) fn close(&self) -> Vec<T> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// The descriptor to poll, readable when there are messages.
    pub(in crate::observe) fn waker(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}
