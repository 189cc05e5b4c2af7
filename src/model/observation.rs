//! The interface between the Task service and the observer, which do not know each other.
//!
//! The Task service calls the methods of these traits on the shim's one async thread, and each call
//! returns at once. A failure of the observer must never affect a container, so no method returns
//! an error.

use std::{collections::HashMap, fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use super::{Exit, ProcessId};

/// Receives each new container of a shim.
pub trait ContainerObserver: Send + Sync + fmt::Debug {
    /// A container is about to be created: called before its OCI runtime is started. Returns `None`
    /// if the container is not observed.
    fn begin(&self, beginning: NewContainer) -> Option<Arc<dyn ObservedContainer>>;
}

/// Receives the facts about one observed container.
///
/// If the value is dropped before [`created`](Self::created) was called, creating the container has
/// failed.
pub trait ObservedContainer: Send + Sync + fmt::Debug {
    /// The future resolves when the observer can distinguish the processes of the runtime's calls
    /// from other processes, or when it is known that it cannot, or when waiting for that takes too
    /// long. To be awaited before the first call.
    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// The container's first process exists, with the pid `init`. It does not run the container's
    /// program yet, unless it was restored from a checkpoint. The future resolves when all further
    /// events are observed, or when waiting for that takes too long.
    fn created(&self, init: i32, restored: bool) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// The OCI runtime is about to be called; to make the process of `exec_id`, or for another
    /// purpose. Dropping the returned value says that the runtime call has ended. For an exec that
    /// is after [`exec_started`](Self::exec_started), and for the call that makes the container
    /// after [`created`](Self::created) is ready: until then the observer cannot distinguish the
    /// new process from others.
    fn runtime_call(&self, exec_id: Option<&str>) -> Box<dyn RuntimeCall>;

    /// The pid of an exec's process is known. The process may have had events before.
    fn exec_started(&self, exec_id: &str, pid: i32);

    /// The shim has reaped a process of the container. Its output may not have ended, and its
    /// descendants may live.
    fn exited(&self, process: &ProcessId, exit: Exit);

    /// A client's input was written to the container's first process. Called for each write, so it
    /// must be cheap.
    fn input(&self) {}

    /// The pipes through which the shim reads the output of a process have reached their end.
    fn output_ended(&self, process: &ProcessId);

    /// The container was deleted. This is the last call for the container.
    fn deleted(&self);
}

/// One call of the OCI runtime, from before its spawn until it has ended.
pub trait RuntimeCall: Send + Sync + fmt::Debug {
    /// The calling thread is about to spawn the OCI runtime. From now on the children of this
    /// thread are processes of the runtime call.
    fn spawn_begins(&self);

    /// The spawn of the OCI runtime is over. `pid` is its pid, `None` if it was not spawned.
    fn spawn_ended(&self, pid: Option<i32>);
}

/// The facts about a container that are known before it is created.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// The containerd namespace of the container.
    pub namespace: String,
    /// The container's id in containerd.
    pub id: String,
    /// The path of the container's bundle.
    pub bundle: PathBuf,
    /// The absolute path of the container's OCI runtime.
    pub runtime: PathBuf,
    /// The annotations in the container's `config.json`.
    pub annotations: HashMap<String, String>,
    /// The keys and values in the table `[lookout]` of the runtime options, as text.
    pub options: Vec<(String, String)>,
    /// Whether the container has a pid namespace of its own.
    pub owns_pid_namespace: bool,
}
