//! The exit status of the command, and the errors that determine it.

use std::process::ExitCode;

use crate::{
    client::{AccessDenied, DaemonError, runtime_dir},
    config::ConfigError,
    model::chain,
};

/// Defines [`Exit`] from a table. A row has the meaning of an exit status, its number, and a short
/// form of the meaning for the help.
macro_rules! exits {
    ($($(#[doc = $doc:literal])+ $exit:ident = $code:literal, $summary:literal;)+) => {
        /// The exit status of the command, ordered by its number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Exit {
            $($(#[doc = $doc])+ $exit,)+
        }

        impl Exit {
            /// The numeric exit status, 0 to 5.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$exit => $code,)+ }
            }

            /// All exit statuses in one line, which ends the help text.
            pub(super) fn help_line() -> String {
                let all = [$(concat!($code, " ", $summary)),+];
                format!("Exit status: {}.", all.join(", "))
            }

            /// The number and the meaning of each exit status, for docs/reference/cli.md.
            #[cfg(test)]
            pub(super) const STATUS_DOCS: &[(u8, &str)] = &[$(($code, concat!($($doc),+))),+];
        }
    };
}

exits! {
    /// Success; also if the reader of the output closed it early, which ends `-f` and `-w`, and if
    /// SIGTERM or SIGINT ended `-f` and there was no gap.
    Ok = 0, "success";
    /// The command failed.
    Failed = 1, "failure";
    /// The command line or the configuration is invalid; also a cursor that is ahead of its shim.
    Usage = 2, "usage error";
    /// There is no such container, process or entry.
    NotFound = 3, "not found";
    /// The daemon does not answer, or a shim does not; then the answers of the other shims are
    /// printed.
    Unreachable = 4, "shim or daemon unreachable";
    /// The output is incomplete: there was a gap, or a stream broke; also with `-f` and `-w`,
    /// except that a shim that is killed under `events -f` or `ports -w` is reported on stderr
    /// only. Or `doctor` found no problem and could not make every check.
    Incomplete = 5, "incomplete data";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed or was ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No shim has the container with this id.
    #[error("container {0} not found")]
    NotFound(String),
    /// The beginning of an id is that of several containers. The value is the message for the user.
    #[error("{0}")]
    Ambiguous(String),
    /// An expression or a field of the command line is invalid. The value is the message.
    #[error("{0}")]
    Invalid(String),
    /// A shim of lookout runs the container and does not observe it.
    #[error("container {id} of the namespace {namespace} runs and is not observed: {reason}")]
    Unobserved { id: String, namespace: String, reason: String },
    /// A process, an entry or a program was not found. The value is the message for the user.
    #[cfg(feature = "daemon")]
    #[error("{0}")]
    Missing(String),
    /// The daemon answered with an error, or did not answer.
    #[error("{}", chain(.0))]
    Daemon(#[from] DaemonError),
    /// The configuration of the host is invalid.
    #[error("{}", chain(.0))]
    Config(ConfigError),
    /// A shim did not answer, or the directory of the registrations cannot be read.
    #[error("{0:#}")]
    Unreachable(anyhow::Error),
    /// The program that reads the standard output, such as `head`, has closed it. The exit status
    /// is 0.
    #[error("the output was closed")]
    OutputClosed,
    /// Any other error; the exit status is [`Exit::Failed`].
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Failure {
    /// The failure of reading the registrations of shims.
    pub(super) fn of_registrations(error: std::io::Error) -> Self {
        let directory = runtime_dir().join("shims");
        let context = format!("failed to read {}", directory.display());
        let error = match AccessDenied::from_error(&directory, &error) {
            Some(denied) => anyhow::Error::new(denied),
            None => anyhow::Error::new(error),
        };
        Self::Unreachable(error.context(context))
    }

    pub(super) fn exit_status(&self) -> Exit {
        match self {
            Self::NotFound(_) => Exit::NotFound,
            #[cfg(feature = "daemon")]
            Self::Missing(_) => Exit::NotFound,
            Self::Config(_) | Self::Ambiguous(_) | Self::Invalid(_) => Exit::Usage,
            Self::Daemon(error) if error.is_not_found() => Exit::NotFound,
            Self::Daemon(error) if error.is_usage() => Exit::Usage,
            Self::Daemon(error) if error.is_answer() => Exit::Failed,
            Self::Daemon(_) => Exit::Unreachable,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::OutputClosed => Exit::Ok,
            Self::Unobserved { .. } | Self::Other(_) => Exit::Failed,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Other(anyhow::Error::new(error).context("failed to write the output")),
        }
    }
}

impl From<crate::client::ShimError> for Failure {
    fn from(error: crate::client::ShimError) -> Self {
        Self::Unreachable(error.into())
    }
}
