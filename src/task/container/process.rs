//! What init and an exec have in common: streams and those who wait for the end.

use tokio::sync::oneshot;

use super::command::Reply;
use crate::{
    model::Exit,
    task::io::{ProcessIo, Stdio},
};

/// The streams of one process and the requests that wait for its exit.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// What the client asked for.
    pub(super) stdio: Stdio,
    /// The streams, from when the process exists until its delete begins.
    io: Option<ProcessIo>,
    /// CloseIO came, perhaps before the streams were there.
    stdin_closed: bool,
    waiters: Vec<Reply<Exit>>,
}

impl Process {
    pub(super) fn new(stdio: Stdio) -> Self {
        Self { stdio, ..Self::default() }
    }

    pub(super) fn attach(&mut self, io: ProcessIo) {
        self.io = Some(io);
    }

    /// The process is to start: its client's input may come.
    pub(super) fn begin_input(&mut self) {
        let Some(io) = &mut self.io else { return };
        if let Err(error) = io.begin_input() {
            tracing::warn!(%error, "no input");
        }
        if self.stdin_closed {
            io.close_stdin();
        }
    }

    /// The streams, to drain and close.
    pub(super) fn detach(&mut self) -> Option<ProcessIo> {
        self.io.take()
    }

    /// The process is dead: its streams need to know, for what they do at their end.
    pub(super) fn exited(&self) {
        if let Some(io) = &self.io {
            io.exited();
        }
    }

    pub(super) fn close_stdin(&mut self) {
        self.stdin_closed = true;
        if let Some(io) = &self.io {
            io.close_stdin();
        }
    }

    /// Without a terminal, or with the process gone, there is nothing to resize.
    pub(super) fn resize(&self, width: u16, height: u16) -> std::io::Result<()> {
        self.io.as_ref().map_or(Ok(()), |io| io.resize(width, height))
    }

    /// Remembers a request that waits for the exit, and forgets those whose client has left.
    pub(super) fn wait(&mut self, reply: Reply<Exit>) {
        self.waiters.retain(|waiter| !oneshot::Sender::is_closed(waiter));
        self.waiters.push(reply);
    }

    /// Answers all that wait.
    pub(super) fn tell_exit(&mut self, exit: Exit) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Ok(exit));
        }
    }
}
