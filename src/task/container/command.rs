//! The commands that a container's async task (its owner) answers, and the handle that sends them.

use std::{path::PathBuf, time::SystemTime};

use containerd_shim_protos::{
    events::task::{TaskCreate, TaskIO},
    protobuf::{MessageField, well_known_types::any::Any},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    model::{Ended, Exit, ProcessId},
    runc::{CheckpointOptions, Options},
    task::{TaskError, io::Stdio, lifecycle::Denied, rootfs::Mount},
};

/// The capacity of the channel to a container's async task. When the channel is full, senders wait.
const COMMANDS_CAPACITY: usize = 64;

/// Sends commands to a container's async task. Clones send to the same task.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
}

/// The sender of the answer to a command. If it is dropped, the client receives an error, see
/// [`Handle::call`].
pub(crate) type Reply<T> = oneshot::Sender<Result<T, TaskError>>;

/// A request to create a container.
#[derive(Debug, Clone)]
pub(crate) struct CreateRequest {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// The mounts of the root filesystem; empty if the shim is not to mount it.
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) stdio: Stdio,
    /// The directory of the checkpoint to restore; empty for a new container.
    pub(crate) checkpoint: String,
    /// The directory of the earlier checkpoint on which `checkpoint` is based; empty if
    /// `checkpoint` is complete.
    pub(crate) parent_checkpoint: String,
    pub(crate) options: Options,
}

impl CreateRequest {
    /// The `TaskCreate` event, which contains this request and the pid of init (`None` for a
    /// restore).
    pub(super) fn event(&self, init_pid: Option<i32>) -> TaskCreate {
        let io = TaskIO {
            stdin: self.stdio.stdin.clone(),
            stdout: self.stdio.stdout.clone(),
            stderr: self.stdio.stderr.clone(),
            terminal: self.stdio.terminal,
            ..Default::default()
        };
        let mut event = TaskCreate {
            container_id: self.id.clone(),
            bundle: self.bundle.to_string_lossy().into_owned(),
            io: MessageField::some(io),
            checkpoint: self.checkpoint.clone(),
            pid: init_pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
            ..Default::default()
        };
        // containerd-shim-protos does not export the type of these mounts, so no value of it can be
        // constructed here. Instead, the vector is resized with defaults and their fields are set.
        event.rootfs.resize_with(self.rootfs.len(), Default::default);
        for (target, mount) in event.rootfs.iter_mut().zip(&self.rootfs) {
            target.type_.clone_from(&mount.kind);
            target.source.clone_from(&mount.source);
            target.target.clone_from(&mount.target);
            target.options.clone_from(&mount.options);
        }
        event
    }
}

/// A request to add an exec.
#[derive(Debug)]
pub(crate) struct ExecRequest {
    pub(crate) exec_id: String,
    pub(crate) stdio: Stdio,
    /// The OCI process document as JSON. Its field `terminal` has the value from the request.
    pub(crate) process: Vec<u8>,
}

/// The answer to State.
#[derive(Debug, Clone)]
pub(crate) struct StateAnswer {
    pub(crate) bundle: PathBuf,
    /// The pid in the shim's pid namespace; `None` if the process does not exist yet.
    pub(crate) pid: Option<i32>,
    pub(crate) status: Status,
    pub(crate) stdio: Stdio,
    /// The exit, once it has been reported.
    pub(crate) exit: Option<Exit>,
}

/// The five states of a task that containerd distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Stopped,
    Paused,
    Pausing,
}

/// A deleted process, for the answer to Delete and for the delete event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    /// The pid in the shim's pid namespace; `None` if the process never ran.
    pub(crate) pid: Option<i32>,
    /// When and how the process has ended; `None` if it never ran.
    pub(crate) end: Option<ProcessEnd>,
}

/// What a deleted container still answers, because the client of the delete may not have received
/// the answer. containerd would otherwise keep a task that it can neither show nor delete.
#[derive(Debug, Clone)]
pub(crate) struct DeletedTask {
    /// The answer to a repeated delete.
    pub(crate) deleted: Deleted,
    /// The answer to State, which a client calls before it repeats the delete. `None` if the client
    /// has received the answer of the delete.
    pub(crate) last_state: Option<StateAnswer>,
}

/// When and how a process has ended, for the answers to Wait and Delete. Unlike an [`Exit`] it can
/// exist without a process: clients also wait for processes that never run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessEnd {
    /// The time of the exit.
    pub(crate) timestamp: SystemTime,
    pub(crate) ended: Ended,
}

impl ProcessEnd {
    /// The end of a process that never ran, or of a container that was deleted during its create:
    /// now, with the exit status that containerd uses if the real status is unknown.
    pub(super) fn unknown() -> Self {
        Self { timestamp: SystemTime::now(), ended: Ended::Code(255) }
    }
}

impl From<Exit> for ProcessEnd {
    fn from(exit: Exit) -> Self {
        Self { timestamp: exit.timestamp, ended: exit.ended }
    }
}

/// A process of the container, for the answer to Pids. Only the first process of an exec has an
/// `exec_id`.
#[derive(Debug)]
pub(crate) struct ListedProcess {
    /// The pid in the shim's pid namespace; `None` for an init that does not exist yet.
    pub(crate) pid: Option<u32>,
    pub(crate) exec_id: Option<String>,
}

/// One request of a client, with the channel for its answer.
#[derive(Debug)]
pub(crate) enum Command {
    State {
        process: ProcessId,
        reply: Reply<StateAnswer>,
    },
    Start {
        process: ProcessId,
        reply: Reply<i32>,
    },
    Delete {
        process: ProcessId,
        reply: Reply<Deleted>,
    },
    Pids {
        reply: Reply<Vec<ListedProcess>>,
    },
    Pause {
        reply: Reply<()>,
    },
    Resume {
        reply: Reply<()>,
    },
    Checkpoint {
        path: String,
        options: CheckpointOptions,
        reply: Reply<()>,
    },
    Kill {
        process: ProcessId,
        signal: u32,
        all: bool,
        reply: Reply<()>,
    },
    Exec {
        request: ExecRequest,
        reply: Reply<()>,
    },
    ResizePty {
        process: ProcessId,
        width: u16,
        height: u16,
        reply: Reply<()>,
    },
    CloseIo {
        process: ProcessId,
        reply: Reply<()>,
    },
    Update {
        resources: Vec<u8>,
        reply: Reply<()>,
    },
    Wait {
        process: ProcessId,
        reply: Reply<ProcessEnd>,
    },
    Stats {
        reply: Reply<Any>,
    },
    /// Requests the pid of init, which is `None` before init exists.
    Pid {
        reply: Reply<Option<i32>>,
    },
}

impl Command {
    /// Answers the request with an error.
    pub(super) fn refuse(self, error: TaskError) {
        // A client that has disconnected needs no answer.
        match self {
            Self::State { reply, .. } => drop(reply.send(Err(error))),
            Self::Start { reply, .. } => drop(reply.send(Err(error))),
            Self::Delete { reply, .. } => drop(reply.send(Err(error))),
            Self::Pids { reply } => drop(reply.send(Err(error))),
            Self::Wait { reply, .. } => drop(reply.send(Err(error))),
            Self::Stats { reply } => drop(reply.send(Err(error))),
            Self::Pid { reply } => drop(reply.send(Err(error))),
            Self::Pause { reply }
            | Self::Resume { reply }
            | Self::Checkpoint { reply, .. }
            | Self::Kill { reply, .. }
            | Self::Exec { reply, .. }
            | Self::ResizePty { reply, .. }
            | Self::CloseIo { reply, .. }
            | Self::Update { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

impl Handle {
    /// Creates a handle, and the receiver of its commands for the container's async task.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Command>) {
        // When the channel is full, only the request that sends a command waits.
        let (commands, receiver) = mpsc::channel(COMMANDS_CAPACITY);
        (Self { commands }, receiver)
    }

    /// Sends a command and waits for the answer. Dropping the future, because the client has
    /// disconnected, ends the wait but does not withdraw the command.
    ///
    /// # Errors
    ///
    /// The error of the request. [`Denied::NotCreated`] if the container's async task has ended.
    pub(crate) async fn call<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, TaskError> {
        let (reply, answer) = oneshot::channel();
        // Both fail only if the container's async task has ended, because the container was
        // deleted.
        self.commands.send(command(reply)).await.map_err(|_| Denied::NotCreated)?;
        answer.await.unwrap_or(Err(TaskError::Denied(Denied::NotCreated)))
    }
}
