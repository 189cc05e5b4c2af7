//! Which container? And who is left?

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
};

use super::{
    TaskError,
    container::{self, CreateRequest, Handle},
    lifecycle::Denied,
};
use crate::{model::Watch, publish::Publisher, reaper::Reaper};

/// What every container of a shim uses.
#[derive(Debug)]
pub struct Shared {
    /// containerd's namespace.
    pub namespace: String,
    /// Spawns and reaps.
    pub reaper: Reaper,
    /// Where events go.
    pub publisher: Publisher,
    /// The score that containers without one of their own run with: containerd's, not the shim's.
    pub container_oom_score_adj: Option<i32>,
    /// Who watches the containers, if anybody.
    pub watch: Option<Arc<dyn Watch>>,
}

/// The containers of a shim. Clones share them.
#[derive(Debug, Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// Locked for look-ups only.
    containers: Mutex<Containers>,
    /// Told when Shutdown finds no container left.
    shutdown: Notify,
}

#[derive(Debug, Default)]
struct Containers {
    handles: HashMap<String, Handle>,
    /// The containers' tasks: one that ends has taken itself out of `handles`.
    tasks: JoinSet<()>,
    /// Shutdown has been accepted: nothing new begins.
    leaving: bool,
    /// Whether there ever was a container.
    used: bool,
}

impl Supervisor {
    /// No containers yet.
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

    /// Creates a container and answers with the pid of its init, 0 where start will restore it.
    ///
    /// # Errors
    ///
    /// What the create failed with; nothing of it is left then.
    pub(super) async fn create(&self, request: CreateRequest) -> Result<i32, TaskError> {
        let (reply, created) = oneshot::channel();
        {
            let mut containers = self.lock();
            if containers.leaving {
                return Err(TaskError::Abandoned);
            }
            if containers.handles.contains_key(&request.id) {
                return Err(TaskError::ContainerExists { id: request.id });
            }
            let (handle, commands) = Handle::channel();
            containers.used = true;
            containers.handles.insert(request.id.clone(), handle);
            // Tasks that have ended are let go of here, so that they do not add up.
            while containers.tasks.try_join_next().is_some() {}
            let owner = container::spawn(self.clone(), request, commands, reply);
            containers.tasks.spawn(owner);
        }
        created.await.unwrap_or(Err(TaskError::Abandoned))
    }

    /// The container `id`.
    ///
    /// # Errors
    ///
    /// [`Denied::NotCreated`].
    pub(super) fn container(&self, id: &str) -> Result<Handle, TaskError> {
        self.lock().handles.get(id).cloned().ok_or(TaskError::Denied(Denied::NotCreated))
    }

    /// The container is gone; its id may be used again.
    pub(super) fn forget(&self, id: &str) {
        self.lock().handles.remove(id);
    }

    /// Shutdown: accepted when no container is left, else ignored.
    pub(super) fn shut_down(&self) {
        let mut containers = self.lock();
        if containers.handles.is_empty() {
            containers.leaving = true;
            self.inner.shutdown.notify_one();
        }
    }

    /// Resolves when Shutdown has been accepted.
    pub async fn left(&self) {
        self.inner.shutdown.notified().await;
    }

    /// How many containers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().handles.len()
    }

    /// Whether there ever was a container.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Containers> {
        self.inner.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
