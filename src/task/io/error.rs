//! Errors of preparing a process's stdio.

use std::{io, path::PathBuf};

/// Why a process cannot have the stdio that its client asked for.
///
/// Once the process runs, trouble with its stdio is logged and is never the error of a request.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// A URI with an unsupported scheme.
    #[error("unknown STDIO scheme {scheme}")]
    UnknownScheme {
        /// The scheme: the part before the colon.
        scheme: String,
    },
    /// A logger as stderr alone. A logger takes both streams, so stdout must name it.
    #[error("a logger must be named by stdout, not by stderr alone")]
    LoggerOnStderr,
    /// A URI with a `%` that no two hexadecimal digits follow.
    #[error("invalid escape in {uri:?}")]
    BadEscape {
        /// The whole URI, as the client gave it.
        uri: String,
    },
    /// A path that would depend on the working directory.
    #[error("stdio path {path:?} is not absolute")]
    Relative {
        /// The path, as the client gave it.
        path: PathBuf,
    },
    /// A fifo or file that cannot be opened.
    #[error("failed to open stdio {path:?}")]
    Open {
        /// The path, as the client gave it.
        path: PathBuf,
        /// The error of open(2) or stat(2).
        source: io::Error,
    },
    /// A pipe could not be created, registered with epoll, or given to its owner.
    #[error("failed to create the pipes of the process")]
    Pipe(#[source] io::Error),
    /// A logger that cannot be started.
    #[error("failed to start the logging binary {program:?}")]
    Logger {
        /// The path of the program.
        program: PathBuf,
        /// The error of fork or exec.
        source: io::Error,
    },
    /// A logger that was not ready in time, or that closed its descriptor 5 without the byte that
    /// `binary-v2` requires.
    #[error("the logging binary {program:?} did not become ready")]
    LoggerNotReady {
        /// The path of the program.
        program: PathBuf,
    },
    /// The socket for the terminal could not be created.
    #[error("failed to create the console socket in {folder:?}")]
    ConsoleSocket {
        /// The directory in which the socket was to be created.
        folder: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
    /// The runtime succeeded, but handed over no usable terminal.
    #[error("failed to receive the terminal from the runtime")]
    Console(#[source] io::Error),
}

impl From<nix::Error> for IoError {
    fn from(error: nix::Error) -> Self {
        IoError::Pipe(error.into())
    }
}
