//! What may be asked of a container.

use std::path::PathBuf;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use tokio::sync::{mpsc, oneshot};

use crate::{
    model::Exit,
    runc::{CheckpointOptions, Options},
    task::{TaskError, io::Stdio, lifecycle::Denied, rootfs::Mount},
};

/// How many requests wait for a container's task before their senders do.
const COMMANDS: usize = 64;

/// The way to a container's task. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
}

/// Where the answer to a command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, TaskError>>;

/// A request to create a container.
#[derive(Debug, Clone)]
pub(crate) struct CreateRequest {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) stdio: Stdio,
    /// The image to restore from; empty for a new container.
    pub(crate) checkpoint: String,
    /// The image that `checkpoint` continues, or empty.
    pub(crate) parent_checkpoint: String,
    pub(crate) options: Options,
}

/// A request to add an exec.
#[derive(Debug)]
pub(crate) struct ExecRequest {
    pub(crate) exec_id: String,
    pub(crate) stdio: Stdio,
    /// The OCI process document, JSON.
    pub(crate) process: Vec<u8>,
}

/// What State answers.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) bundle: PathBuf,
    pub(crate) pid: i32,
    pub(crate) status: Status,
    pub(crate) stdio: Stdio,
    pub(crate) exit: Option<Exit>,
}

/// containerd's five words for where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Stopped,
    Paused,
    Pausing,
}

/// A deleted process, for the answer and the event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    pub(crate) pid: i32,
    pub(crate) exit: Option<Exit>,
}

/// A process of the container, and the exec that it is, if any.
#[derive(Debug)]
pub(crate) struct Pid {
    pub(crate) pid: u32,
    pub(crate) exec_id: Option<String>,
}

/// One request. An empty `exec_id` means init.
#[derive(Debug)]
pub(crate) enum Command {
    State {
        exec_id: String,
        reply: Reply<Snapshot>,
    },
    Start {
        exec_id: String,
        reply: Reply<i32>,
    },
    Delete {
        exec_id: String,
        reply: Reply<Deleted>,
    },
    Pids {
        reply: Reply<Vec<Pid>>,
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
        exec_id: String,
        signal: u32,
        all: bool,
        reply: Reply<()>,
    },
    Exec {
        request: ExecRequest,
        reply: Reply<()>,
    },
    ResizePty {
        exec_id: String,
        width: u16,
        height: u16,
        reply: Reply<()>,
    },
    CloseIo {
        exec_id: String,
        reply: Reply<()>,
    },
    Update {
        resources: Vec<u8>,
        reply: Reply<()>,
    },
    Wait {
        exec_id: String,
        reply: Reply<Exit>,
    },
    Stats {
        reply: Reply<Any>,
    },
    /// The pid of init, 0 without one.
    Pid {
        reply: Reply<i32>,
    },
}

impl Handle {
    /// A handle, and the end that the container's task receives from.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Command>) {
        // Full: the sender, one request of one client, waits.
        let (commands, receiver) = mpsc::channel(COMMANDS);
        (Self { commands }, receiver)
    }

    /// Asks, and waits for the answer. Dropping the future (a client that disconnects) withdraws
    /// the wait, not the request.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, TaskError> {
        let (reply, answer) = oneshot::channel();
        // Both fail only when the container is gone.
        self.commands.send(command(reply)).await.map_err(|_| Denied::NotCreated)?;
        answer.await.unwrap_or(Err(TaskError::Denied(Denied::NotCreated)))
    }
}
