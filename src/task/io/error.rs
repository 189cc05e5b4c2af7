//! What can go wrong before a process has its stdio.

use std::{io, path::PathBuf};

/// Why a process cannot have the stdio that its client asked for. Once it runs, nothing that
/// happens to its stdio is an error of a request any more.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// A URI of a kind that is not known here.
    #[error("unknown STDIO scheme {scheme}")]
    UnknownScheme {
        /// What stood before the colon.
        scheme: String,
    },
    /// A logger in the place of stderr: it is named by stdout and takes both.
    #[error("a logger must be named by stdout, not by stderr alone")]
    LoggerOnStderr,
    /// A URI with a `%` that no two hexadecimal digits follow.
    #[error("invalid escape in {uri:?}")]
    BadEscape {
        /// The whole of it.
        uri: String,
    },
    /// A path that would depend on the working directory.
    #[error("stdio path {path:?} is not absolute")]
    Relative {
        /// As the client gave it.
        path: PathBuf,
    },
    /// A fifo or file that cannot be opened.
    #[error("failed to open stdio {path:?}")]
    Open {
        /// As the client gave it.
        path: PathBuf,
        /// What open(2) answered.
        source: io::Error,
    },
    /// No pipe, no epoll registration, or no change of owner.
    #[error("failed to make the pipes of the process")]
    Pipe(#[source] io::Error),
    /// A logger that cannot be started.
    #[error("failed to start the logging binary {program:?}")]
    Logger {
        /// Its path.
        program: PathBuf,
        /// What fork or exec answered.
        source: io::Error,
    },
    /// A logger that did not say that it is ready within the time, or closed its descriptor 5
    /// without a byte where one is demanded (`binary-v2`).
    #[error("the logging binary {program:?} did not get ready")]
    LoggerNotReady {
        /// Its path.
        program: PathBuf,
    },
    /// The socket for the terminal cannot be made.
    #[error("failed to make the console socket in {folder:?}")]
    ConsoleSocket {
        /// `$XDG_RUNTIME_DIR` or the folder for temporary files.
        folder: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The runtime ended well and the terminal has not come.
    #[error("failed to receive the terminal from the runtime")]
    Console(#[source] io::Error),
}

impl From<nix::Error> for IoError {
    fn from(error: nix::Error) -> Self {
        IoError::Pipe(error.into())
    }
}
