//! Errors of a call of the runtime.

use std::{io, path::PathBuf, time::Duration};

use super::path::NotFound;
use crate::model::printable::safe_text;

/// A call of the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime's binary was not found.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The binary could not be run.
    #[error("failed to run {}", binary.display())]
    Spawn {
        /// The absolute path of the binary.
        binary: PathBuf,
        /// The error of fork or exec.
        #[source]
        source: io::Error,
    },
    /// A file that the call needs could not be written or read.
    #[error("failed to {action} {}", path.display())]
    File {
        /// The failed operation as a verb, such as `write`.
        action: &'static str,
        /// The path of the file that could not be written or read.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The runtime ran and failed.
    #[error("{message}")]
    Failed {
        /// The cause, as far as the shim distinguishes causes.
        reason: Reason,
        /// The last error in the runtime's log. If the log has no error: the runtime's exit status
        /// and the end of its output. Bounded and safe to print.
        message: String,
        /// Whether `message` is complete, because it comes from the log or already quotes the
        /// runtime's output.
        logged: bool,
    },
    /// The runtime exceeded its deadline and was killed.
    #[error("{} {verb} did not end within {} s and was killed", binary.display(), after.as_secs())]
    TimedOut {
        /// The absolute path of the binary.
        binary: PathBuf,
        /// The runtime's subcommand, such as `kill`.
        verb: &'static str,
        /// The deadline that was exceeded.
        after: Duration,
    },
    /// The runtime was killed because the client cancelled the operation.
    #[error("the OCI runtime's {verb} was cancelled")]
    Cancelled {
        /// The runtime's subcommand, such as `create`.
        verb: &'static str,
    },
}

/// The cause of a runtime's failure, as far as the shim acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The process or the container has ended already.
    NotRunning,
    /// The runtime has no state of the container, for example because the container was deleted.
    NoSuchContainer,
    /// Any other cause. The client receives the runtime's message unchanged.
    Other,
}

impl Reason {
    /// Classifies a message of runc, crun or a compatible runtime. Runtimes report no error codes,
    /// so the text must be compared. No other code of the shim does that.
    pub(super) fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let has = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        if has(&[
            "process already finished",
            "container not running",
            "no such process",
            "is not running",
        ]) {
            Self::NotRunning
        } else if has(&["does not exist", "no such container"]) {
            Self::NoSuchContainer
        } else {
            Self::Other
        }
    }
}

/// The largest length of a runtime's message in bytes, before it is escaped.
const MESSAGE_MAX: usize = 4096;

/// A message in a form that is safe to print, without the middle of a text that is longer than
/// [`MESSAGE_MAX`]: the beginning says what failed, and the end says why.
fn printable(message: &str) -> String {
    if message.len() <= MESSAGE_MAX {
        return safe_text(message.as_bytes());
    }
    let head = message.floor_char_boundary(MESSAGE_MAX / 4);
    let tail = message.ceil_char_boundary(message.len() - MESSAGE_MAX * 3 / 4);
    format!("{}…{}", safe_text(&message.as_bytes()[..head]), safe_text(&message.as_bytes()[tail..]))
}

impl RuntimeError {
    /// Appends `printed`, the runtime's output, to the message, unless the message is already
    /// complete.
    #[must_use]
    pub fn quoting(self, printed: &str) -> Self {
        let printed = printed.trim();
        match self {
            Self::Failed { message, logged: false, .. } if !printed.is_empty() => {
                Self::failed(&format!("{message}: {printed}"), true)
            }
            other => other,
        }
    }

    /// Whether the runtime has answered. If not, it could not be run, or hung until its deadline.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::Cancelled { .. } => true,
            Self::NotFound(_) | Self::Spawn { .. } | Self::File { .. } | Self::TimedOut { .. } => {
                false
            }
        }
    }

    /// The error of a runtime that failed with this message, which may be any text of any length:
    /// clients print it to terminals and write it to logs.
    pub(super) fn failed(message: &str, logged: bool) -> Self {
        Self::Failed { reason: Reason::of(message), message: printable(message), logged }
    }

    /// The cause of the failure; [`Reason::Other`] if the runtime itself did not report one.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Failed { reason, .. } => *reason,
            Self::NotFound(_)
            | Self::Spawn { .. }
            | Self::File { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. } => Reason::Other,
        }
    }
}
