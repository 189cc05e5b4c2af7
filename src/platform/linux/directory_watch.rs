//! Reports that something was created in a directory: inotify(7).

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys;

/// Watches directories for entries that are created in them or moved into them.
#[derive(Debug)]
pub struct DirectoryWatch {
    inotify: Inotify,
    /// The same instance, registered with the async runtime.
    ready: AsyncFd<OwnedFd>,
}

impl DirectoryWatch {
    /// Watches no directory yet.
    ///
    /// # Errors
    ///
    /// `EMFILE` when the user has no inotify instances left (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let ready = sys::watched(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(Self { inotify, ready })
    }

    /// Adds a directory. Adding it twice changes nothing.
    ///
    /// # Errors
    ///
    /// What inotify_add_watch(2) returned; `ENOENT`, `ENOTDIR` if there is no such directory.
    pub fn add(&mut self, directory: &Path) -> io::Result<()> {
        let events =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(directory, events)?;
        Ok(())
    }

    /// Waits for the next change and consumes all changes that are queued. Cancel-safe.
    pub async fn changed(&self) {
        if let Ok(mut ready) = self.ready.readable().await {
            // All queued changes are one: the caller reads the whole directory again anyway.
            while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
            ready.clear_ready();
        }
    }
}
