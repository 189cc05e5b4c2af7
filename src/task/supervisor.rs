//! The containers of one shim, by id.
//!
//! The supervisor starts one async task for each container and finds the handle of a container for
//! each request. It accepts Shutdown when the shim has no container. It never holds its lock across
//! an await.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
};

use super::{
    Shared, TaskError,
    container::{self, CreateRequest, DeletedTask, Handle},
    lifecycle::Denied,
};

/// The most deleted containers that are remembered. Only a pod with many restarts has more, and
/// their clients have long received their answers.
const DELETED_MAX: usize = 64;

/// The containers of one shim. Clones share them.
#[derive(Debug, Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// The lock is held only to read or change the fields, so a handler never waits long for it.
    containers: Mutex<Containers>,
    /// Notified when Shutdown is accepted, because the shim has no container.
    shutdown: Notify,
}

#[derive(Debug, Default)]
struct Containers {
    handles: HashMap<String, Handle>,
    /// The containers that were deleted last, oldest first.
    deleted: VecDeque<(String, DeletedTask)>,
    /// The async tasks of the containers. Each removes its handle from `handles` before it ends.
    tasks: JoinSet<()>,
    /// Whether Shutdown has been accepted, so that no new container is created.
    shutting_down: bool,
    /// Whether a container was ever requested, even if its create failed.
    had_containers: bool,
}

impl Supervisor {
    /// A supervisor without containers.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        let inner = Inner {
            shared: Arc::new(shared),
            containers: Mutex::default(),
            shutdown: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.inner.shared.clone()
    }

    /// Creates a container. Returns the pid of its init; `None` for a container that start restores
    /// from a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TaskError::ContainerExists`] for an id in use, [`TaskError::Abandoned`] after Shutdown, or
    /// the error of the failed step. A failed create removes what it has created.
    pub(super) async fn create(&self, request: CreateRequest) -> Result<Option<i32>, TaskError> {
        let (reply, created) = oneshot::channel();
        {
            let mut containers = self.lock();
            // Shutdown is accepted under this lock, so no container can be created after it.
            if containers.shutting_down {
                return Err(TaskError::Abandoned);
            }
            if containers.handles.contains_key(&request.id) {
                return Err(TaskError::ContainerExists { id: request.id });
            }
            let (handle, commands) = Handle::channel();
            containers.had_containers = true;
            containers.deleted.retain(|(id, _)| *id != request.id);
            // The handle is inserted before the create begins: a second create with this id must
            // fail, and State must not wait for the create.
            containers.handles.insert(request.id.clone(), handle);
            // A JoinSet keeps the results of async tasks that have ended. They are dropped here, so
            // that they do not accumulate.
            while containers.tasks.try_join_next().is_some() {}
            let forget = {
                let (supervisor, id) = (self.clone(), request.id.clone());
                Box::new(move |kept| supervisor.forget(&id, kept))
            };
            let owner = container::spawn(self.shared(), forget, request, commands, reply);
            containers.tasks.spawn(owner);
        }
        created.await.unwrap_or(Err(TaskError::Abandoned))
    }

    /// The handle of the container `id`, from the moment that its create begins.
    ///
    /// # Errors
    ///
    /// [`Denied::NotCreated`] if there is no such container.
    pub(super) fn container(&self, id: &str) -> Result<Handle, TaskError> {
        self.lock().handles.get(id).cloned().ok_or(TaskError::Denied(Denied::NotCreated))
    }

    /// What a deleted container still answers; `None` if its id is unknown or used again.
    pub(super) fn deleted(&self, id: &str) -> Option<DeletedTask> {
        let containers = self.lock();
        containers.deleted.iter().find(|(deleted, _)| deleted == id).map(|(_, task)| task.clone())
    }

    /// A repeated delete was answered, so its client knows that the container is gone.
    pub(super) fn delete_was_repeated(&self, id: &str) {
        for (_, task) in self.lock().deleted.iter_mut().filter(|(deleted, _)| deleted == id) {
            task.last_state = None;
        }
    }

    /// Removes a container that is deleted, so that its id can be used again.
    fn forget(&self, id: &str, kept: Option<DeletedTask>) {
        let mut containers = self.lock();
        containers.handles.remove(id);
        if let Some(kept) = kept {
            containers.deleted.push_back((id.to_owned(), kept));
            if containers.deleted.len() > DELETED_MAX {
                containers.deleted.pop_front();
            }
        }
    }

    /// Handles Shutdown. It is accepted if the shim has no container, and ignored otherwise, as by
    /// the Go shim.
    pub(super) fn shut_down(&self) {
        let mut containers = self.lock();
        if containers.handles.is_empty() {
            containers.shutting_down = true;
            self.inner.shutdown.notify_one();
        }
    }

    /// Resolves when Shutdown has been accepted, even if it was accepted before this call.
    pub async fn shutdown_accepted(&self) {
        self.inner.shutdown.notified().await;
    }

    /// The number of containers, including those that are being created.
    #[must_use]
    pub fn container_count(&self) -> usize {
        self.lock().handles.len()
    }

    /// Whether a client ever requested a container, even if its create failed.
    #[must_use]
    pub fn had_containers(&self) -> bool {
        self.lock().had_containers
    }

    // No code that can panic runs under the lock, so a poisoned lock still guards valid maps.
    fn lock(&self) -> MutexGuard<'_, Containers> {
        self.inner.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
