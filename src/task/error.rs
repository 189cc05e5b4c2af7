//! The errors of task requests, and the ttrpc status that the client receives for each.
//!
//! Texts that the Go shim also has are exact copies, because containerd and its clients match on
//! them.

use std::{io, path::PathBuf, time::Duration};

use containerd_shim_protos::ttrpc;
use ttrpc::proto::Code;

use super::{cgroup::CgroupError, io::IoError, lifecycle::Denied, rootfs::MountError};
use crate::{
    bundle::BundleError,
    model::chain,
    reaper::NotAChild,
    runc::{OptionsError, Reason, RuntimeError},
};

/// Why a task request failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The state of the container or of the exec does not allow the request.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Init has ended, so no exec can start.
    #[error("container {id} init process is not running")]
    InitNotRunning {
        /// The container's id.
        id: String,
    },
    /// Create was called with an id that a container of this shim already has.
    #[error("container {id}")]
    ContainerExists {
        /// The container's id.
        id: String,
    },
    /// Exec was called with an id that an exec of this container already has.
    #[error("id {exec_id}")]
    ExecExists {
        /// The exec's id.
        exec_id: String,
    },
    /// The container has no exec with this id.
    #[error("process does not exist {exec_id}")]
    NoSuchProcess {
        /// The id from the request.
        exec_id: String,
    },
    /// A field of the request has a value that is not allowed.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// The name of the field, for the client.
        what: &'static str,
        /// The reason, as a clause that follows the field's name.
        why: String,
    },
    /// The runtime options of the request could not be decoded.
    #[error("{}", chain(.0))]
    Options(#[from] OptionsError),
    /// The OCI runtime failed, or could not be run.
    #[error("{what}: {}", chain(.source))]
    Runtime {
        /// The operation that failed, in the wording of the Go shim.
        what: &'static str,
        /// The runtime's error, taken from its log or its output.
        source: RuntimeError,
    },
    /// The runtime's checkpoint failed, so there is no image.
    #[error("{} path= {}", first_line(&chain(source)), dump.display())]
    Checkpoint {
        /// The runtime's error.
        source: RuntimeError,
        /// The path of the copy of CRIU's own log, in the bundle.
        dump: PathBuf,
    },
    /// The runtime's checkpoint succeeded and wrote nothing.
    #[error("the OCI runtime wrote no checkpoint to {}", directory.display())]
    NoImage {
        /// The directory for the image.
        directory: PathBuf,
    },
    /// The root filesystem is still being unmounted. A later delete continues to wait for it.
    #[error("failed to unmount the root filesystem: it did not end within {} s", after.as_secs())]
    UnmountHangs {
        /// How long the delete has taken.
        after: Duration,
    },
    /// The kernel refused the new size of the terminal.
    #[error("failed to resize the terminal: {0}")]
    Resize(io::Error),
    /// The runtime could not send a signal to the container.
    #[error("{}", kill_text(.0))]
    Kill(RuntimeError),
    /// The runtime did not answer, and the shim could not send the signal itself either.
    #[error("{cause}; without the runtime, the signal could not be sent either: {why}")]
    KillWithoutRuntime {
        /// The runtime's error.
        cause: String,
        /// Why the shim could not send the signal.
        why: String,
    },
    /// kill(2) of an exec's process failed.
    #[error("exec kill error: {0}")]
    KillExec(nix::Error),
    /// The runtime's pid file does not name a child process of this shim.
    #[error("failed to retrieve OCI runtime {what} pid: {why}")]
    Pid {
        /// The kind of process: `container` for init, or `exec`.
        what: &'static str,
        /// The reason: the file is not readable, contains no pid, or names a process that is no
        /// child of this shim.
        why: String,
    },
    /// The process's stdin, stdout or stderr could not be set up.
    #[error("failed to create process I/O: {}", chain(.0))]
    Io(#[from] IoError),
    /// The root filesystem could not be mounted or unmounted.
    #[error("{}", chain(.0))]
    Mount(#[from] MountError),
    /// The cgroup could not be read.
    #[error("{}", chain(.0))]
    Cgroup(#[from] CgroupError),
    /// Stats was called for a container that has no cgroup known to the shim.
    #[error("cgroup does not exist")]
    NoCgroup,
    /// A file of the bundle could not be written or read.
    #[error("{}", chain(.0))]
    Bundle(#[from] BundleError),
    /// The shim is shutting down, or an operation panicked.
    #[error("the shim abandoned the request: it is shutting down or an operation ended early")]
    Abandoned,
}

impl TaskError {
    /// The ttrpc status for the client. The code and the suffix of the text are those of the Go
    /// shim, because clients use both.
    #[must_use]
    pub fn status(&self) -> ttrpc::Error {
        let (code, suffix) = match self {
            Self::Denied(Denied::NotCreated | Denied::Finished) | Self::NoSuchProcess { .. } => {
                (Code::NOT_FOUND, ": not found")
            }
            Self::NoCgroup => (Code::NOT_FOUND, ": not found"),
            Self::Cgroup(error) if error.is_not_found() => (Code::NOT_FOUND, ": not found"),
            Self::Denied(Denied::NotStarted | Denied::InitNotRunning)
            | Self::InitNotRunning { .. } => (Code::FAILED_PRECONDITION, ": failed precondition"),
            Self::ContainerExists { .. } | Self::ExecExists { .. } => {
                (Code::ALREADY_EXISTS, ": already exists")
            }
            // Runtimes have no error codes, so the reason is derived from the text.
            Self::Kill(error) => match error.reason() {
                Reason::NotRunning | Reason::NoSuchContainer => (Code::NOT_FOUND, ": not found"),
                Reason::Other => (Code::UNKNOWN, ""),
            },
            Self::KillExec(nix::Error::ESRCH) => (Code::NOT_FOUND, ": not found"),
            Self::Invalid { .. } | Self::Options(_) => (Code::INVALID_ARGUMENT, ""),
            // Unavailable: the client may try again.
            Self::Denied(Denied::Busy) | Self::Abandoned => (Code::UNAVAILABLE, ""),
            Self::Denied(Denied::State { .. })
            | Self::Runtime { .. }
            | Self::Checkpoint { .. }
            | Self::NoImage { .. }
            | Self::UnmountHangs { .. }
            | Self::Resize(_)
            | Self::KillExec(_)
            | Self::KillWithoutRuntime { .. }
            | Self::Pid { .. }
            | Self::Io(_)
            | Self::Mount(_)
            | Self::Cgroup(_)
            | Self::Bundle(_) => (Code::UNKNOWN, ""),
        };
        ttrpc::Error::RpcStatus(ttrpc::get_status(code, format!("{self}{suffix}")))
    }

    /// The error for a pid file of the runtime that names a process which is not a child of this
    /// shim.
    pub(super) fn not_ours(what: &'static str, error: NotAChild) -> Self {
        Self::Pid { what, why: error.to_string() }
    }
}

/// The first line of a runtime's message, in which the ends of lines are escaped. The error of a
/// checkpoint contains only this line, as with `criuError` of the Go shim.
fn first_line(text: &str) -> &str {
    text.split(r"\n").next().unwrap_or_default()
}

fn kill_text(error: &RuntimeError) -> String {
    match error.reason() {
        Reason::NotRunning => "process already finished".into(),
        Reason::NoSuchContainer => "no such container".into(),
        Reason::Other => format!("unknown error after kill: {}", chain(error)),
    }
}
