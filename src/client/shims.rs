//! The shims of a node, as they come.

use std::{collections::HashSet, io, path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};

use super::changes::Changes;
use crate::registration::{Registration, registrations};

/// How often the folders are looked at where nobody tells of a change: a folder that is still
/// missing has nobody to tell of it, and a node may be out of inotify instances.
const LOOK: Duration = Duration::from_millis(200);

/// Notices each shim once. One that was restarted under the same id is another.
#[derive(Debug)]
pub struct Shims {
    runtime_dir: PathBuf,
    namespace: Option<String>,
    /// Of those that live; the dead are forgotten at the next look, so this is bounded by the
    /// node's shims.
    known: HashSet<(i32, u64, String)>,
    /// Told of each change in the folders. Made at the first wait; `None` in it where the node has
    /// no more.
    changes: Option<Option<Changes>>,
}

impl Shims {
    /// Of one namespace, or of all.
    #[must_use]
    pub fn new(runtime_dir: PathBuf, namespace: Option<String>) -> Self {
        Self { runtime_dir, namespace, known: HashSet::new(), changes: None }
    }

    /// Those that this has not told yet.
    ///
    /// # Errors
    ///
    /// What the system answers when a folder cannot be read.
    pub fn look(&mut self) -> io::Result<Vec<Registration>> {
        let living = registrations(&self.runtime_dir, self.namespace.as_deref())?;
        let identity = |one: &Registration| {
            (one.pid, one.start, format!("{}/{}/{}", one.namespace, one.id, one.epoch))
        };
        let now: HashSet<_> = living.iter().map(identity).collect();
        let new = living.into_iter().filter(|one| !self.known.contains(&identity(one))).collect();
        self.known = now;
        Ok(new)
    }

    /// Waits until there are some that this has not told yet. Can be dropped without loss.
    ///
    /// # Errors
    ///
    /// What the system answers when a folder cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<Registration>> {
        loop {
            // Watched first: what comes after the look is told.
            self.watch();
            let new = self.look()?;
            if !new.is_empty() {
                return Ok(new);
            }
            self.changed().await;
        }
    }

    /// Watches every folder that is there.
    fn watch(&mut self) {
        if let Some(changes) = self.changes.get_or_insert_with(|| Changes::new().ok()) {
            changes.watch(&self.runtime_dir);
        }
    }

    /// Waits for a change; where not every change is told, not for long.
    async fn changed(&self) {
        match &self.changes {
            Some(Some(changes)) if changes.are_all_told() => changes.next().await,
            Some(Some(changes)) => drop(timeout(LOOK, changes.next()).await),
            _ => sleep(LOOK).await,
        }
    }
}
