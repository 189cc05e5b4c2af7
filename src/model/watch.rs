//! How the task side tells whoever watches; neither knows the other.
//!
//! Calls come from the shim's one async thread and return at once. What the watcher does with them
//! is its own affair: it may fail wholly, and no container notices.

use std::{collections::HashMap, fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use super::Exit;

/// Watches containers.
pub trait Watch: Send + Sync + fmt::Debug {
    /// A container is about to be made, its runtime not yet started. `None`: it is not watched.
    fn begin(&self, beginning: Beginning) -> Option<Arc<dyn Watched>>;
}

/// One container that is watched.
///
/// Dropping it before [`created`](Watched::created) says that the create failed.
pub trait Watched: Send + Sync + fmt::Debug {
    /// Init exists; it has not run the user's program unless it was restored. Resolves when every
    /// event from here on is seen, or when that cannot be had in time.
    fn created(&self, init: i32, restored: bool) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// The runtime's child `pid` runs `runc exec` for `exec_id`. Told before that child can have
    /// started anything.
    fn runtime_exec(&self, exec_id: &str, pid: i32);

    /// The process of an exec is known. May come after its first events.
    fn exec_started(&self, exec_id: &str, pid: i32);

    /// Init (`exec_id` empty) or an exec's process was reaped.
    fn exited(&self, exec_id: &str, exit: Exit);

    /// A client's bytes went to init: told for each part of them, so it must be quick.
    fn input(&self) {}

    /// The shim's own pipes of init (`exec_id` empty) or of an exec came to their end.
    fn output_ended(&self, exec_id: &str);

    /// The container is deleted: nothing more comes of it.
    fn deleted(&self);
}

/// What is known of a container before it is made.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The program of its OCI runtime.
    pub runtime: PathBuf,
    /// The annotations of its `config.json`.
    pub annotations: HashMap<String, String>,
    /// The table `[lookout]` of the runtime options: key and value, both as text.
    pub options: Vec<(String, String)>,
    /// Whether it has a pid namespace of its own.
    pub owns_pid_namespace: bool,
}
