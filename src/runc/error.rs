//! Why a call of the runtime failed.

use std::{io, path::PathBuf, time::Duration};

use super::path::NotFound;

/// A call of the runtime that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such binary.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The binary could not be run.
    #[error("failed to run {}", binary.display())]
    Spawn {
        /// The binary.
        binary: PathBuf,
        /// What fork or exec answered.
        #[source]
        source: io::Error,
    },
    /// A file that the call needs could not be written or read.
    #[error("failed to {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// It ran and said no.
    #[error("{said}")]
    Failed {
        /// What its words mean, as far as the shim acts on it.
        reason: Reason,
        /// Its last logged error; else its exit status and the end of what it printed.
        said: String,
        /// Whether `said` is from its log, so that nothing it printed needs to be quoted.
        logged: bool,
    },
    /// It ran longer than its caller would wait, and was killed.
    #[error("{} {verb} did not end within {} s and was killed", binary.display(), after.as_secs())]
    TimedOut {
        /// The binary.
        binary: PathBuf,
        /// The verb.
        verb: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// It was killed because the caller's client asked for that.
    #[error("{verb} was cancelled")]
    Cancelled {
        /// The verb.
        verb: &'static str,
    },
}

/// What a runtime's refusal means to the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The process or container has ended already.
    NotRunning,
    /// The runtime has no such container (any more).
    NoSuchContainer,
    /// Anything else: told to the client as it is.
    Other,
}

impl Reason {
    /// Reads the words of runc, crun and their kin. They have no codes; this is the one place that
    /// looks at text.
    pub(super) fn of(said: &str) -> Self {
        let said = said.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
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
    /// The same error with the end of what the runtime printed, where its log said nothing.
    #[must_use]
    pub fn quoting(self, printed: &str) -> Self {
        let printed = printed.trim();
        match self {
            Self::Failed { said, logged: false, .. } if !printed.is_empty() => {
                let said = format!("{said}: {printed}");
                Self::Failed { reason: Reason::of(&said), said, logged: true }
            }
            other => other,
        }
    }

    /// What the refusal means; [`Reason::Other`] where the runtime did not get to refuse.
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
