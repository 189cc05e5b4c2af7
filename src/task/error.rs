//! What a task request can fail with, and the status that its client gets.

use std::{io, path::PathBuf};

use containerd_shim_protos::ttrpc;
use ttrpc::proto::Code;

use super::{cgroup::CgroupError, io::IoError, lifecycle::Denied, rootfs::MountError};
use crate::{
    bundle::BundleError,
    model::chain,
    reaper::NotOurs,
    runc::{OptionsError, Reason, RuntimeError},
};

/// A request that was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The state forbids it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Init has ended, so no exec can start.
    #[error("container {id} init process is not running")]
    InitNotRunning {
        /// The container.
        id: String,
    },
    /// A second create under one id.
    #[error("container {id}")]
    ContainerExists {
        /// The container.
        id: String,
    },
    /// A second exec under one id.
    #[error("id {exec_id}")]
    ExecExists {
        /// The exec.
        exec_id: String,
    },
    /// No such exec.
    #[error("process does not exist {exec_id}")]
    NoSuchProcess {
        /// The exec.
        exec_id: String,
    },
    /// A request that cannot be meant.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Options that could not be understood.
    #[error("{}", chain(.0))]
    Options(#[from] OptionsError),
    /// The runtime refused, or could not be run.
    #[error("{what}: {}", chain(.source))]
    Runtime {
        /// What was tried, in the Go shim's words.
        what: &'static str,
        /// What it said.
        source: RuntimeError,
    },
    /// No image was made.
    #[error("{} path= {}", first_line(&chain(source)), dump.display())]
    Checkpoint {
        /// What the runtime said.
        source: RuntimeError,
        /// Where CRIU's own log is.
        dump: PathBuf,
    },
    /// The terminal refused the size.
    #[error("failed to resize the terminal: {0}")]
    Resize(io::Error),
    /// A signal did not arrive.
    #[error("{}", kill_text(.0))]
    Kill(RuntimeError),
    /// A signal to an exec did not arrive.
    #[error("exec kill error: {0}")]
    KillExec(nix::Error),
    /// The runtime left no process that the shim could take over.
    #[error("failed to retrieve OCI runtime {what} pid: {why}")]
    Pid {
        /// Of what.
        what: &'static str,
        /// Why it is none.
        why: String,
    },
    /// The streams could not be set up.
    #[error("failed to create process I/O: {}", chain(.0))]
    Io(#[from] IoError),
    /// The root filesystem could not be mounted or unmounted.
    #[error("{}", chain(.0))]
    Mount(#[from] MountError),
    /// The cgroup could not be read.
    #[error("{}", chain(.0))]
    Cgroup(#[from] CgroupError),
    /// The container has no cgroup.
    #[error("cgroup does not exist")]
    NoCgroup,
    /// A file of the bundle could not be written or read.
    #[error("{}", chain(.0))]
    Bundle(#[from] BundleError),
    /// The shim is leaving, or the container went while the request waited.
    #[error("the request was abandoned")]
    Abandoned,
}

impl TaskError {
    /// The status for the client: the codes of the Go shim, and its endings, which clients see.
    #[must_use]
    pub fn status(&self) -> ttrpc::Error {
        let (code, ending) = match self {
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
            Self::Kill(error) => match error.reason() {
                Reason::NotRunning | Reason::NoSuchContainer => (Code::NOT_FOUND, ": not found"),
                Reason::Other => (Code::UNKNOWN, ""),
            },
            Self::KillExec(nix::Error::ESRCH) => (Code::NOT_FOUND, ": not found"),
            Self::Invalid { .. } | Self::Options(_) => (Code::INVALID_ARGUMENT, ""),
            Self::Denied(Denied::Busy) | Self::Abandoned => (Code::UNAVAILABLE, ""),
            Self::Denied(Denied::State { .. })
            | Self::Runtime { .. }
            | Self::Checkpoint { .. }
            | Self::Resize(_)
            | Self::KillExec(_)
            | Self::Pid { .. }
            | Self::Io(_)
            | Self::Mount(_)
            | Self::Cgroup(_)
            | Self::Bundle(_) => (Code::UNKNOWN, ""),
        };
        ttrpc::Error::RpcStatus(ttrpc::get_status(code, format!("{self}{ending}")))
    }

    /// For a pid file that names no process of this shim's.
    pub(super) fn not_ours(what: &'static str, error: NotOurs) -> Self {
        Self::Pid { what, why: error.to_string() }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn kill_text(error: &RuntimeError) -> String {
    match error.reason() {
        Reason::NotRunning => "process already finished".into(),
        Reason::NoSuchContainer => "no such container".into(),
        Reason::Other => format!("unknown error after kill: {}", chain(error)),
    }
}
