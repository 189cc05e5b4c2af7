//! Errors of preparing a process's stdio.

use std::{io, path::PathBuf};

/// Why a process cannot have the stdio that its client has requested.
///
/// Once the process runs, errors of its stdio are logged and are not returned to a client.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The client gave a URI with an unsupported scheme.
    #[error("unknown STDIO scheme {scheme}")]
    UnknownScheme {
        /// The scheme: the part before the colon.
        scheme: String,
    },
    /// Only stderr names a logger. A logger takes both streams, so stdout must name it.
    #[error("a logger must be named by stdout, not by stderr alone")]
    LoggerOnStderr,
    /// The URI has a `%` that is not followed by two hexadecimal digits.
    #[error("invalid percent-encoding in the URI {uri:?}")]
    BadEscape {
        /// The whole URI, as the client gave it.
        uri: String,
    },
    /// The path is relative, so it would depend on the working directory.
    #[error("stdio path {path:?} is not absolute")]
    Relative {
        /// The path, as the client gave it.
        path: PathBuf,
    },
    /// The fifo or file could not be opened.
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
    /// The logger could not be started.
    #[error("failed to start the logging binary {program:?}")]
    Logger {
        /// The path of the logger's program.
        program: PathBuf,
        /// The error of fork or exec.
        source: io::Error,
    },
    /// The logger was not ready in time, or closed its descriptor 5 without writing the byte that
    /// `binary-v2` requires.
    #[error("the logging binary {program:?} did not become ready")]
    LoggerNotReady {
        /// The path of the logger's program.
        program: PathBuf,
    },
    /// The socket for the terminal could not be created.
    #[error("failed to create the console socket in {folder:?}")]
    ConsoleSocket {
        /// The directory in which the socket could not be created.
        folder: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
    /// The runtime succeeded, but has sent no usable terminal.
    #[error("failed to receive the terminal from the runtime")]
    Console(#[source] io::Error),
}

impl From<nix::Error> for IoError {
    fn from(error: nix::Error) -> Self {
        IoError::Pipe(error.into())
    }
}
