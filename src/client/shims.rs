//! The shims of a node, as they come.

use std::{
    collections::HashSet,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{io::unix::AsyncFd, time::timeout};

use crate::{
    registration::{Registration, registrations},
    sys,
};

/// How often the folders are looked at where nobody tells of a change: a folder that is still missing has
/// nobody to tell of it, and a node may be out of inotify instances.
const LOOK: Duration = Duration::from_millis(200);

/// Notices each shim once. One that was restarted under the same id is another.
#[derive(Debug)]
pub struct Shims {
    runtime_dir: PathBuf,
    namespace: Option<String>,
    /// Of those that live; the dead are forgotten at the next look, so this is bounded by the node's shims.
    known: HashSet<(i32, u64, String)>,
    /// Told of each change in the folders. Made at the first wait; `None` in it where the node has no more.
    changes: Option<Option<Changes>>,
}

#[derive(Debug)]
struct Changes {
    inotify: Inotify,
    /// The same instance, as the runtime waits for it.
    ready: AsyncFd<OwnedFd>,
    /// The outermost folder is there and watched, so that nothing can come unnoticed.
    are_all_told: bool,
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
        let identity = |one: &Registration| (one.pid, one.start, format!("{}/{}/{}", one.namespace, one.id, one.epoch));
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

    /// Watches every folder that is there. One that is watched already stays so.
    fn watch(&mut self) {
        let made = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let ready = sys::watched(inotify.as_fd().try_clone_to_owned()?, tokio::io::Interest::READABLE)?;
            Ok::<_, io::Error>(Changes { inotify, ready, are_all_told: false })
        };
        let Some(changes) = self.changes.get_or_insert_with(|| made().ok()) else { return };
        let shims = self.runtime_dir.join("shims");
        let namespaces = fs::read_dir(&shims).into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = [self.runtime_dir.clone(), shims.clone()].into_iter().chain(namespaces);
        for folder in folders {
            let kinds = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
            // One that is gone, or not yet there, is looked at again.
            let watched = changes.inotify.add_watch(&folder, kinds);
            if folder == self.runtime_dir {
                changes.are_all_told = watched.is_ok();
            }
        }
    }

    /// Waits for a change; where not every change is told, not for long.
    async fn changed(&self) {
        let Some(Some(changes)) = &self.changes else { return tokio::time::sleep(LOOK).await };
        let told = async {
            if let Ok(mut ready) = changes.ready.readable().await {
                while changes.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
                ready.clear_ready();
            }
        };
        match changes.are_all_told {
            true => told.await,
            false => drop(timeout(LOOK, told).await),
        }
    }
}
