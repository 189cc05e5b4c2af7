//! The standard output: the style of its text, writing to it, and noticing that its reader has
//! gone.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout, Write as _},
    os::fd::AsFd as _,
    thread,
};

use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use terminal_size::Width;
use tokio::sync::oneshot;

use super::{args::DisplayOptions, clock::Clock, width::cut_end};

/// The narrowest terminal for which lines are fitted.
const WIDTH_LEAST: usize = 40;

/// How the text of the standard output is formatted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// The number of columns of the terminal; `None` for no limit.
    pub(super) width: Option<usize>,
    /// Whether failures are printed in red.
    pub(super) is_coloured: bool,
    /// Whether to omit headers and warnings, and print names only (`--quiet`).
    pub(super) is_quiet: bool,
    /// How times are printed.
    pub(super) clock: Clock,
    /// Whether long ids are printed short.
    pub(super) has_short_ids: bool,
    /// Whether trees are drawn with ASCII, because the locale has no other characters.
    pub(super) is_ascii: bool,
}

impl Style {
    /// The style for the stdout of this process. A pipe gets complete lines, ids and times.
    pub(super) fn for_stdout(display: DisplayOptions) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let columns = || terminal_size::terminal_size().map(|(Width(columns), _)| columns);
        let width = if is_terminal && !display.no_trunc { columns() } else { None };
        Self {
            width: width.map(|columns| usize::from(columns).max(WIDTH_LEAST)),
            is_coloured: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            is_quiet: display.quiet,
            clock: if is_terminal { Clock::of_terminal(display.utc) } else { Clock::Complete },
            has_short_ids: is_terminal && !display.no_trunc,
            is_ascii: !has_utf8_locale(),
        }
    }

    /// The style of `-o wide`: nothing is cut.
    pub(super) fn uncut(self) -> Self {
        Self { width: None, ..self }
    }

    /// Cuts a line at the width, with an ellipsis, and removes trailing blanks.
    pub(super) fn fit_to_width(self, line: &str) -> String {
        match self.width {
            Some(width) => cut_end(line, width),
            None => line.trim_end().to_owned(),
        }
    }

    /// Highlights a line that reports a failure or a loss.
    pub(super) fn highlight_failure(self, line: String) -> String {
        if !self.is_coloured {
            return line;
        }
        let red = AnsiColor::Red.on_default();
        format!("{red}{line}{red:#}")
    }
}

/// Whether the locale of the user has the characters of a tree. Without any setting it is taken to
/// have them: containers and services set none.
fn has_utf8_locale() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
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

    /// Writes what is not text.
    #[cfg(feature = "report")]
    pub(super) fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
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
