//! The part of an init's or an exec's state that both have: the streams, and the requests that wait
//! for the exit.

use tokio::sync::oneshot;

use super::command::{ProcessEnd, Reply};
use crate::task::io::{ProcessIo, Stdio};

/// The streams of one process and the requests that wait for its exit.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// The streams that the client requested, as State returns them.
    pub(super) stdio: Stdio,
    /// The open streams. Present from the end of create (or of an exec's start) until the delete
    /// begins.
    io: Option<ProcessIo>,
    /// Whether CloseIO was received, perhaps before the streams were attached.
    stdin_closed: bool,
    /// The Wait requests that are not answered yet.
    waiters: Vec<Reply<ProcessEnd>>,
}

impl Process {
    pub(super) fn new(stdio: Stdio) -> Self {
        Self { stdio, ..Self::default() }
    }

    pub(super) fn attach(&mut self, io: ProcessIo) {
        self.io = Some(io);
    }

    /// Connects the client's stdin: just before init starts, or after an exec has started.
    pub(super) fn begin_input(&mut self) {
        let Some(io) = &mut self.io else { return };
        if let Err(error) = io.begin_input() {
            tracing::warn!(
                %error,
                "failed to open the client's stdin: the process reads the end of its input"
            );
        }
        // CloseIO is sent only once. If it was received before the input was connected, it takes
        // effect now.
        if self.stdin_closed {
            io.close_stdin();
        }
    }

    /// Takes the streams, so that they can be drained and closed; `None` if they were not attached
    /// or were already taken.
    pub(super) fn detach(&mut self) -> Option<ProcessIo> {
        self.io.take()
    }

    /// Reports to the streams that the process is dead, so that its input ends and its terminal can
    /// be closed.
    pub(super) fn exited(&self) {
        if let Some(io) = &self.io {
            io.exited();
        }
    }

    /// Handles CloseIO: the process reads the end of its stdin as soon as the clients have closed
    /// it as well.
    pub(super) fn close_stdin(&mut self) {
        self.stdin_closed = true;
        if let Some(io) = &self.io {
            io.close_stdin();
        }
    }

    /// Resizes the terminal, in characters. Does nothing if there is no terminal or the delete has
    /// begun.
    pub(super) fn resize(&self, width: u16, height: u16) -> std::io::Result<()> {
        self.io.as_ref().map_or(Ok(()), |io| io.resize(width, height))
    }

    /// Keeps a request until the exit. Also drops requests of clients that have disconnected, so
    /// that a client that repeats Wait does not make the list grow.
    pub(super) fn wait(&mut self, reply: Reply<ProcessEnd>) {
        self.waiters.retain(|waiter| !oneshot::Sender::is_closed(waiter));
        self.waiters.push(reply);
    }

    /// Answers all requests that wait for the exit.
    pub(super) fn answer_waiters(&mut self, end: ProcessEnd) {
        for waiter in self.waiters.drain(..) {
            // The client may have disconnected.
            let _ = waiter.send(Ok(end));
        }
    }
}
