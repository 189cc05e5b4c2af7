//! Discovery of the node's shims, by their registrations in the runtime directory.

use std::{collections::HashSet, fs, io, path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    platform::DirectoryWatch,
    registration::{Registration, registrations},
};

/// How often the directories of registrations are read when a change may go unreported: a directory
/// that does not exist yet cannot be watched, and the node's inotify instances may have run out.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Discovers the shims of the node, and reports each shim once. A shim that was restarted under the
/// same id counts as another shim.
#[derive(Debug)]
pub struct ShimDiscovery {
    runtime_dir: PathBuf,
    namespace: Option<String>,
    /// The pid, start time and namespace/id/epoch of each live shim that was reported. A dead shim
    /// is removed at the next scan, so the size is bounded by the number of the node's shims.
    reported: HashSet<(i32, u64, String)>,
    /// The watch of the directories of registrations; `None` before the first wait. `Some(None)` if
    /// the node's inotify instances have run out.
    watch: Option<Option<DirectoryWatch>>,
    /// Whether the runtime directory is watched, so that no change can be missed.
    is_complete: bool,
}

impl ShimDiscovery {
    /// Discovers the shims of one containerd namespace, or of all namespaces.
    #[must_use]
    pub fn new(runtime_dir: PathBuf, namespace: Option<String>) -> Self {
        Self { runtime_dir, namespace, reported: HashSet::new(), watch: None, is_complete: false }
    }

    /// Scans the directories of registrations, and returns the live shims that were not reported
    /// before.
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
        let new =
            living.into_iter().filter(|one| !self.reported.contains(&identity(one))).collect();
        self.reported = now;
        Ok(new)
    }

    /// Waits until there are shims that were not reported before, and returns them. Cancel safe.
    ///
    /// # Errors
    ///
    /// The error of the filesystem if a directory cannot be read.
    pub async fn next_new(&mut self) -> io::Result<Vec<Registration>> {
        loop {
            // The directories are watched before they are scanned: otherwise a shim that registers
            // between the two would be missed.
            self.watch_directories();
            let new = self.scan()?;
            if !new.is_empty() {
                return Ok(new);
            }
            self.wait_for_change().await;
        }
    }

    /// Watches every directory of registrations that exists.
    fn watch_directories(&mut self) {
        let watch = self.watch.get_or_insert_with(|| DirectoryWatch::new().ok());
        let Some(watch) = watch else { return };
        self.is_complete = watch.add(&self.runtime_dir).is_ok();
        let shims = self.runtime_dir.join("shims");
        // A directory that does not exist any more, or not yet, is watched after the next change.
        let _ = watch.add(&shims);
        // The directories of namespaces are listed after the watch has begun: the watch reports a
        // namespace that is created after the listing.
        for namespace in fs::read_dir(&shims).into_iter().flatten().flatten() {
            let _ = watch.add(&namespace.path());
        }
    }

    /// Waits for a change in the directories of registrations, or for [`POLL_INTERVAL`] when a
    /// change may go unreported.
    async fn wait_for_change(&self) {
        match &self.watch {
            Some(Some(watch)) if self.is_complete => watch.changed().await,
            Some(Some(watch)) => drop(timeout(POLL_INTERVAL, watch.changed()).await),
            _ => sleep(POLL_INTERVAL).await,
        }
    }
}
