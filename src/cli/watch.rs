//! `-w` of the commands that print a page: prints it again when it has changed.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use super::{
    exit::{Exit, Failure},
    output::{Output, StdoutWatch},
    stream::TerminationSignals,
};

/// How often a page is made again. A page shows what lives, so what is missed in between no longer
/// matters.
const INTERVAL: Duration = Duration::from_secs(1);
/// Moves the cursor to the top, and clears the rest of the terminal.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Prints a page once; with `is_watched` again and again, as soon as it has changed, until SIGTERM
/// or SIGINT. On a terminal each page replaces the one before.
pub(super) async fn print(
    is_watched: bool,
    mut page: impl AsyncFnMut() -> Result<(String, Exit), Failure>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (mut text, mut exit) = page().await?;
    if !is_watched {
        out.write(&text)?;
        return Ok(exit);
    }
    let mut termination = TerminationSignals::new()?;
    let mut output = StdoutWatch::start();
    let before = if io::stdout().is_terminal() { CLEAR } else { "" };
    loop {
        out.write_now(&format!("{before}{text}"))?;
        loop {
            tokio::select! {
                biased;
                () = termination.received() => return Ok(exit),
                () = output.closed() => return Err(Failure::OutputClosed),
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let next = match page().await {
                Ok(next) => next,
                // The container has ended.
                Err(Failure::NotFound(_)) => return Ok(exit),
                Err(failure) => return Err(failure),
            };
            if next.0 != text {
                (text, exit) = next;
                break;
            }
        }
    }
}
