//! The standard output: the style of its text, writing to it, and noticing that its reader has
//! gone.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout, Write as _},
    os::fd::AsFd as _,
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::oneshot;

/// How the text of the standard output is formatted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// The number of columns after which lines are truncated; `None` for no limit.
    pub(super) width: Option<usize>,
    /// Whether failures are printed in red.
    pub(super) is_coloured: bool,
    /// Whether to omit headers and warnings, and print names only (`--quiet`).
    pub(super) is_quiet: bool,
}

impl Style {
    /// The style for the stdout of this process. A pipe gets complete lines without colour.
    pub(super) fn for_stdout(no_trunc: bool, is_quiet: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: terminal_size::terminal_size()
                .filter(|_| is_terminal && !no_trunc)
                .map(|(terminal_size::Width(columns), _)| usize::from(columns).max(40)),
            is_coloured: is_terminal && !set("NO_COLOR") && !is_dumb,
            is_quiet,
        }
    }

    /// Truncates a line to the width, with an ellipsis, and removes trailing spaces.
    pub(super) fn fit_to_width(self, line: &str) -> String {
        match self.width {
            Some(width) if line.chars().count() > width => {
                line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
            }
            _ => line.trim_end().to_owned(),
        }
    }

    /// Highlights a line that reports a failure or a loss.
    pub(super) fn highlight_failure(self, line: String) -> String {
        if self.is_coloured { format!("\x1b[31m{line}\x1b[0m") } else { line }
    }
}

/// Standard output, buffered. If its reader has closed it, a write fails with `BrokenPipe`, which
/// the command does not report.
#[derive(Debug)]
pub(super) struct Output(BufWriter<Stdout>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Writes text and flushes the buffer, for text that must not wait for the next write.
    pub(super) fn write_now(&mut self, text: &str) -> io::Result<()> {
        self.write(text)?;
        self.flush()
    }
}

/// Notices that the reader of the standard output has gone. A command that waits for events would
/// otherwise notice it at its next write, which may never come.
#[derive(Debug)]
pub(super) struct StdoutWatch(oneshot::Receiver<()>);

impl StdoutWatch {
    /// Starts a thread that waits until the reader of stdout has gone. If stdout is a file, it has
    /// no reader, and the thread waits for ever.
    pub(super) fn start() -> Self {
        let (sender, receiver) = oneshot::channel();
        // If the thread cannot be started, the command notices a closed output at its next write.
        let _ = thread::Builder::new().name("output".into()).spawn(move || {
            let output = io::stdout();
            // No event is requested: poll(2) always reports errors and hang-ups, and only these
            // matter.
            let mut waits = [PollFd::new(output.as_fd(), PollFlags::empty())];
            loop {
                match poll(&mut waits, PollTimeout::NONE) {
                    Err(Errno::EINTR) | Ok(0) => {}
                    Err(_) => return,
                    Ok(_) => {
                        // Sending fails if the command has ended and dropped the receiver.
                        let _ = sender.send(());
                        return;
                    }
                }
            }
        });
        Self(receiver)
    }

    /// Resolves when the reader of stdout has gone; never if that cannot be noticed. Cancel safe.
    pub(super) async fn closed(&mut self) {
        if (&mut self.0).await.is_err() {
            std::future::pending().await
        }
    }
}
