//! Captures a runtime's output. Only the end is kept, because the output of a failing runtime can
//! have any size.

use std::{convert::Infallible, io, os::fd::OwnedFd};

use tokio::net::unix::pipe::Receiver;

/// The number of bytes that are kept from the end of the output, to be quoted in an error.
pub(super) const KEPT_BYTES: usize = 4096;

/// The read end of a pipe that is a runtime's stdout and stderr.
#[derive(Debug)]
pub(super) struct Capture {
    pipe: Receiver,
    tail: Tail,
}

/// The last [`KEPT_BYTES`] bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: Vec<u8>,
    cut: bool,
}

impl Capture {
    /// Creates a capture. Also returns the write end of its pipe, for the child.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // Only the shim's end is non-blocking. The runtime's end is another file description and
        // stays blocking, because a runtime does not expect EAGAIN from its stdout.
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(flags))?;
        Ok((Self { pipe: Receiver::from_owned_fd(read)?, tail: Tail::default() }, write))
    }

    /// Reads and never returns. Run it concurrently with the wait for the child, and drop it when
    /// the child has ended: a background process of the child may hold the pipe open for any time.
    pub(super) async fn read(&mut self) -> Infallible {
        loop {
            if self.pipe.readable().await.is_err() || !self.read_now() {
                return std::future::pending().await;
            }
        }
    }

    /// The last [`KEPT_BYTES`] bytes of the output, as text. Begins with `…` if older output was
    /// dropped.
    pub(super) fn text(mut self) -> String {
        self.read_now();
        self.tail.text()
    }

    /// Reads the bytes that are in the pipe now. Returns false at the end of the stream.
    fn read_now(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.tail.push(&buffer[..count]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl Tail {
    /// Appends bytes, and drops older bytes beyond [`KEPT_BYTES`] from the front.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if let Some(over) = self.kept.len().checked_sub(KEPT_BYTES).filter(|over| *over > 0) {
            self.kept.drain(..over);
            self.cut = true;
        }
    }

    /// The bytes as text, without white space around it. Begins with `…` if bytes were dropped.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let text = text.trim();
        if self.cut { format!("…{text}") } else { text.to_owned() }
    }
}
