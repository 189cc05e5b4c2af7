//! That something has changed in the folders of shims, told by inotify(7).

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys;

#[derive(Debug)]
pub(super) struct Changes {
    inotify: Inotify,
    /// The same instance, as the runtime waits for it.
    ready: AsyncFd<OwnedFd>,
    are_all_told: bool,
}

impl Changes {
    /// Nothing is watched yet.
    ///
    /// # Errors
    ///
    /// `EMFILE`: the node has no more of these.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let ready = sys::watched(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(Self { inotify, ready, are_all_told: false })
    }

    /// Watches every folder that is there. One that is watched already stays so.
    pub(super) fn watch(&mut self, runtime_dir: &Path) {
        let shims = runtime_dir.join("shims");
        let namespaces =
            fs::read_dir(&shims).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in [runtime_dir.to_owned(), shims.clone()].into_iter().chain(namespaces) {
            let kinds =
                AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
            // One that is gone, or not yet there, is looked at again.
            let watched = self.inotify.add_watch(&folder, kinds);
            if folder == runtime_dir {
                self.are_all_told = watched.is_ok();
            }
        }
    }

    /// Whether the outermost folder is there and watched, so that nothing can come unnoticed.
    pub(super) fn are_all_told(&self) -> bool {
        self.are_all_told
    }

    /// The next one. Can be dropped without loss.
    pub(super) async fn next(&self) {
        if let Ok(mut ready) = self.ready.readable().await {
            while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
            ready.clear_ready();
        }
    }
}
