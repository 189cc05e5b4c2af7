//! Discovery of the node's shims, by their registrations in the runtime directory.

use std::{collections::HashSet, fs, io, path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    platform::DirectoryWatch,
    registration::{Registration, registrations},
};

/// How often the directories are read when a change may go unreported: a directory that does not
/// exist yet cannot be watched, and the node's inotify instances may have run out.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Reports each shim once. A shim that was restarted under the same id counts as another shim.
#[derive(Debug)]
pub struct Shims {
    runtime_dir: PathBuf,
    namespace: Option<String>,
    /// The pid, start time and namespace/id/epoch of each live shim that was reported. A dead shim
    /// is removed at the next scan, so the size is bounded by the number of the node's shims.
    known: HashSet<(i32, u64, String)>,
    /// `None` before the first wait. `Some(None)` if the node's inotify instances have run out.
    watch: Option<Option<DirectoryWatch>>,
    /// Whether the outermost directory is watched, so that no change can be missed.
    is_complete: bool,
}

impl Shims {
    /// Discovers the shims of one containerd namespace, or of all namespaces.
    #[must_use]
    pub fn new(runtime_dir: PathBuf, namespace: Option<String>) -> Self {
        Self { runtime_dir, namespace, known: HashSet::new(), watch: None, is_complete: false }
    }

    /// Scans the directories and returns the live shims that were not reported before.
    ///
    /// # Errors
    ///
    /// The error of the filesystem if a directory cannot be read.
    pub fn scan(&mut self) -> io::Result<Vec<Registration>> {
        let living = registrations(&self.runtime_dir, self.namespace.as_deref())?;
        let identity = |one: &Registration| {
            (one.pid, one.start, format!("{}/{}/{}", one.namespace, one.id, one.epoch))
        };
        let now: HashSet<_> = living.iter().map(identity).collect();
        let new = living.into_iter().filter(|one| !self.known.contains(&identity(one))).collect();
        self.known = now;
        Ok(new)
    }

    /// Waits until there are shims that were not reported before, and returns them. Cancel safe.
    ///
    /// # Errors
    ///
    /// The error of the filesystem if a directory cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<Registration>> {
        loop {
            // Watch before scanning: a shim that registers between the two would be missed
            // otherwise.
            self.watch();
            let new = self.scan()?;
            if !new.is_empty() {
                return Ok(new);
            }
            self.changed().await;
        }
    }

    /// Watches every directory that exists.
    fn watch(&mut self) {
        let watch = self.watch.get_or_insert_with(|| DirectoryWatch::new().ok());
        let Some(watch) = watch else { return };
        self.is_complete = watch.add(&self.runtime_dir).is_ok();
        let shims = self.runtime_dir.join("shims");
        // A directory that is gone, or does not exist yet, is watched after the next change.
        let _ = watch.add(&shims);
        // Listed after the watch has begun: the watch reports a namespace that is created after the
        // listing.
        for namespace in fs::read_dir(&shims).into_iter().flatten().flatten() {
            let _ = watch.add(&namespace.path());
        }
    }

    /// Waits for a change, or for [`POLL_INTERVAL`] when a change may go unreported.
    async fn changed(&self) {
        match &self.watch {
            Some(Some(watch)) if self.is_complete => watch.changed().await,
            Some(Some(watch)) => drop(timeout(POLL_INTERVAL, watch.changed()).await),
            _ => sleep(POLL_INTERVAL).await,
        }
    }
}
