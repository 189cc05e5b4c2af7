//! The messages from the shim's async thread to the observer thread.
//!
//! They are divided by when the observer thread processes them:
//!
//! ```text
//!  Cause      before the records that it read after the message's arrival are tracked
//!  Deferred   after a read that began after the message's arrival has found the end of the source
//!   ├ Outcome   a fact
//!   └ Query     a question that has a reply
//! ```

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::sync::oneshot;

use super::service::{LiveProcesses, OpenPorts};
use crate::{
    config::Settings,
    model::{Container, Exit, ProcessId},
    observe::{
        record::{CallId, PortPosition, Position, TargetId},
        track::idle::LastInput,
    },
};

/// Identifies a container within one shim. Ids of containers can be reused, serials cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Serial(pub(super) u64);

/// A message to the observer thread.
#[derive(Debug)]
pub(super) enum Message {
    Cause(Cause),
    Deferred(Deferred),
}

/// A message about what the source has recorded already, so it is processed after those records.
/// Outcomes and queries are processed in the order in which they were sent.
#[derive(Debug)]
pub(super) enum Deferred {
    Outcome(Outcome),
    Query(Query),
}

/// A fact about what will cause later records. The tracker must know it before these records.
#[derive(Debug)]
pub(super) enum Cause {
    /// Init of a container exists, and the container is to be observed from here on.
    Created(Box<Created>),
    /// A runtime call is about to begin: to make the process of the exec `exec_id`, or for another
    /// purpose if that is `None`.
    CallBegan { serial: Serial, call: CallId, exec_id: Option<Arc<str>> },
    /// The process `pid` is a child of the shim that runs `runc exec` for this exec.
    RuntimeExec { serial: Serial, exec_id: Arc<str>, pid: i32 },
    /// The process of the exec `exec_id` has this pid.
    ExecStarted { serial: Serial, exec_id: Arc<str>, pid: i32 },
}

/// A container that is to be observed.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) serial: Serial,
    /// The container. Its cgroup is not filled in yet.
    pub(super) container: Container,
    pub(super) settings: Arc<Settings>,
    /// The pid of the container's init.
    pub(super) init: i32,
    /// Whether the container was restored from a checkpoint, so that its program runs already.
    pub(super) restored: bool,
    pub(super) owns_pid_namespace: bool,
    /// The target of the container, which is set when the source watches it.
    pub(super) target: Arc<OnceLock<TargetId>>,
    /// The path of the container's OCI runtime.
    pub(super) runtime: PathBuf,
    /// The time of the last input of init, which the async thread writes.
    pub(super) input: Arc<LastInput>,
    /// Answered when the container is observed, dropped if it cannot be observed. The create
    /// request waits for either.
    pub(super) watched: oneshot::Sender<()>,
}

/// A fact about what has happened. The source has made the records about it before the shim noticed
/// it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The shim has reaped init or the process of an exec.
    Exited { serial: Serial, process: ProcessId, exit: Exit },
    /// A call of the runtime has ended, and the pid of the process that it made is known.
    CallEnded { serial: Serial, call: CallId },
    /// The shim's pipes of init or of an exec have reached their end.
    OutputEnded { serial: Serial, process: ProcessId },
    /// Init of an idle container had input.
    Input { serial: Serial },
    /// The container was deleted.
    Deleted { serial: Serial },
}

impl Outcome {
    /// The container that the outcome is about.
    pub(super) fn serial(&self) -> Serial {
        match self {
            Self::Exited { serial, .. }
            | Self::CallEnded { serial, .. }
            | Self::OutputEnded { serial, .. }
            | Self::Input { serial }
            | Self::Deleted { serial } => *serial,
        }
    }
}

/// A question to the observer thread. Its answer includes everything that the source had recorded
/// before the question was sent.
#[derive(Debug)]
pub(super) enum Query {
    /// Which processes are alive?
    Processes {
        /// A container's id, or empty for all containers.
        container_id: String,
        /// The place in the list after which the answer begins.
        after: Position,
        /// Answered with `None` if the container is not observed here.
        reply: oneshot::Sender<Option<LiveProcesses>>,
    },
    /// Which ports are open?
    Ports {
        /// A container's id, or empty for all containers.
        container_id: String,
        /// The port after which the answer begins; `None` for the first page.
        after: Option<PortPosition>,
        /// Answered with `None` if the container is not observed here.
        reply: oneshot::Sender<Option<OpenPorts>>,
    },
    /// Ends the observer thread, because the shim is about to exit.
    Stop {
        /// Answered when all events are in the event log and the source is closed.
        stopped: oneshot::Sender<()>,
    },
}

impl From<Cause> for Message {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

impl From<Outcome> for Message {
    fn from(outcome: Outcome) -> Self {
        Self::Deferred(Deferred::Outcome(outcome))
    }
}

impl From<Query> for Message {
    fn from(query: Query) -> Self {
        Self::Deferred(Deferred::Query(query))
    }
}
