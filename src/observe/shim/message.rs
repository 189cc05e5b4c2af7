//! What the shim's async thread tells the observer's own.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::oneshot;

use super::service::{Living, OpenPorts};
use crate::{
    config::Settings,
    model::{Container, Exit},
    observe::track::idle::Input,
};

/// One container of this shim, among all that it ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Serial(pub(super) u64);

/// One thing that the observer's thread must know or answer.
#[derive(Debug)]
pub(super) enum Message {
    /// Init exists; watch from here on.
    Created {
        serial: Serial,
        container: Container,
        settings: Arc<Settings>,
        init: i32,
        /// It runs already.
        restored: bool,
        owns_pid_namespace: bool,
        /// The program of its OCI runtime.
        runtime: PathBuf,
        /// When init had input.
        input: Arc<Input>,
        /// Dropped or answered: go on.
        watched: oneshot::Sender<()>,
    },
    RuntimeExec {
        serial: Serial,
        exec_id: String,
        pid: i32,
    },
    ExecStarted {
        serial: Serial,
        exec_id: String,
        pid: i32,
    },
    Exited {
        serial: Serial,
        exec_id: String,
        exit: Exit,
    },
    OutputEnded {
        serial: Serial,
        exec_id: String,
    },
    /// Init had input that was waited for.
    Input {
        serial: Serial,
    },
    Deleted {
        serial: Serial,
    },
    Processes {
        container_id: String,
        /// Gets `None` where there is no such container.
        reply: oneshot::Sender<Option<Living>>,
    },
    Ports {
        container_id: String,
        /// Gets `None` where there is no such container.
        reply: oneshot::Sender<Option<OpenPorts>>,
    },
    /// The shim leaves.
    Stop {
        /// Emission when all is published.
        stopped: oneshot::Sender<()>,
    },
}

impl Message {
    /// Whether it must be known before the records that follow its cause are tracked. All others
    /// are about what the source has recorded already, and come after it.
    pub(super) fn comes_first(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::RuntimeExec { .. } | Self::ExecStarted { .. })
    }
}
