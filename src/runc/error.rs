//! Errors of a call of the runtime.

use std::{io, path::PathBuf, time::Duration};

use super::path::NotFound;

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
        /// and the end of its output.
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

impl RuntimeError {
    /// Appends `printed`, the runtime's output, to the message, unless the message is already
    /// complete.
    #[must_use]
    pub fn quoting(self, printed: &str) -> Self {
        let printed = printed.trim();
        match self {
            Self::Failed { message, logged: false, .. } if !printed.is_empty() => {
                let message = format!("{message}: {printed}");
                Self::Failed { reason: Reason::of(&message), message, logged: true }
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
