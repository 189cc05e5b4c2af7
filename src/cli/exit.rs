//! How the command ends.

use std::process::ExitCode;

use crate::{client::DaemonError, config::ConfigError, model::chain};

/// What the command's exit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Exit {
    /// 0: done, also where the reader of the output left early.
    Ok,
    /// 1: failed.
    Failed,
    /// 2: what was typed makes no sense.
    Usage,
    /// 3: there is no such container, process or entry.
    NotFound,
    /// 4: a shim or the daemon could not be asked.
    Unreachable,
    /// 5: something of what was asked for is missing, and it is told where.
    Incomplete,
}

impl Exit {
    /// The status.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::Incomplete => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing of that name.
    #[error("no container {0} here")]
    NotFound(String),
    /// Nothing of that kind, in words.
    #[error("{0}")]
    Missing(String),
    /// The daemon refused, or could not be asked.
    #[error("{}", chain(.0))]
    Daemon(#[from] DaemonError),
    /// The host's configuration cannot be used.
    #[error("{}", chain(.0))]
    Config(ConfigError),
    /// A shim, or the folder where shims are found.
    #[error("{0:#}")]
    Unreachable(anyhow::Error),
    /// The reader of the output has gone: no failure.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// Anything else.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NotFound(_) | Self::Missing(_) => Exit::NotFound,
            Self::Config(_) => Exit::Usage,
            Self::Daemon(error) if error.is_not_found() => Exit::NotFound,
            Self::Daemon(error) if error.is_usage() => Exit::Usage,
            Self::Daemon(error) if error.is_answer() => Exit::Failed,
            Self::Daemon(_) => Exit::Unreachable,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::ReaderGone => Exit::Ok,
            Self::Other(_) => Exit::Failed,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Other(anyhow::Error::new(error).context("failed to write the output")),
        }
    }
}

impl From<crate::client::ShimError> for Failure {
    fn from(error: crate::client::ShimError) -> Self {
        Self::Unreachable(error.into())
    }
}
