//! The messages from the shim's async thread to the observer thread.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::oneshot;

use super::service::{LiveProcesses, OpenPorts};
use crate::{
    config::Settings,
    model::{Container, Exit},
    observe::track::idle::Input,
};

/// Identifies a container within one shim. Ids of containers can be reused, serials cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Serial(pub(super) u64);

/// A fact for the observer thread, or a query that it answers.
#[derive(Debug)]
pub(super) enum Message {
    /// Init exists; the container is observed from here on.
    Created {
        serial: Serial,
        container: Container,
        settings: Arc<Settings>,
        init: i32,
        /// The container was restored from a checkpoint, so its program runs already.
        restored: bool,
        owns_pid_namespace: bool,
        /// The path of its OCI runtime.
        runtime: PathBuf,
        /// The time of the last input of init, which the async thread writes.
        input: Arc<Input>,
        /// Answered when the container is observed, dropped if it cannot be. The create waits for
        /// either.
        watched: oneshot::Sender<()>,
    },
    /// The process `pid` is a child of the shim that runs `runc exec` for this exec.
    RuntimeExec { serial: Serial, exec_id: String, pid: i32 },
    /// The process of an exec has this pid.
    ExecStarted { serial: Serial, exec_id: String, pid: i32 },
    /// The shim has reaped init (`exec_id` is empty) or the process of an exec.
    Exited { serial: Serial, exec_id: String, exit: Exit },
    /// The shim's pipes of init (`exec_id` is empty) or of an exec have reached their end.
    OutputEnded { serial: Serial, exec_id: String },
    /// Init of an idle container had input.
    Input { serial: Serial },
    /// The container was deleted.
    Deleted { serial: Serial },
    /// Which processes are alive?
    Processes {
        /// A container's id, or empty for all containers.
        container_id: String,
        /// Answered with `None` if the container is not observed here.
        reply: oneshot::Sender<Option<LiveProcesses>>,
    },
    /// Which ports are open?
    Ports {
        /// A container's id, or empty for all containers.
        container_id: String,
        /// Answered with `None` if the container is not observed here.
        reply: oneshot::Sender<Option<OpenPorts>>,
    },
    /// Stop: the shim is about to end.
    Stop {
        /// Answered when everything is published and the source is closed.
        stopped: oneshot::Sender<()>,
    },
}

impl Message {
    /// Whether the message is about the cause of later records, and so must be processed before
    /// they are tracked. All others are about what the source has recorded already, and are
    /// processed after those records.
    pub(super) fn is_cause(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::RuntimeExec { .. } | Self::ExecStarted { .. })
    }
}
