//! Wakes a thread that waits in poll(2), by a pair of sockets, because the system may have no
//! eventfd(2).

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

/// A descriptor that is readable from [`wake`](Self::wake) until [`clear`](Self::clear). Several
/// wakes before a clear count as one.
#[derive(Debug)]
pub struct Waker {
    writer: UnixStream,
    reader: UnixStream,
}

impl Waker {
    /// Creates a waker that is not readable.
    ///
    /// # Errors
    ///
    /// The error of socketpair(2).
    pub fn new() -> io::Result<Self> {
        let (writer, reader) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        reader.set_nonblocking(true)?;
        Ok(Self { writer, reader })
    }

    /// Makes the descriptor readable. Never blocks.
    pub fn wake(&self) {
        // EAGAIN means that the buffer is full, so the reader is already readable.
        let _ = (&self.writer).write(&[1]);
    }

    /// Makes the descriptor unreadable. Never blocks, even if the descriptor was not readable.
    pub fn clear(&self) {
        let mut wakes = [0; 64];
        while (&self.reader).read(&mut wakes).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
