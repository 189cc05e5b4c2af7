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
    /// A duplicate of the descriptor of `inotify`, registered with the async runtime.
    ready: AsyncFd<OwnedFd>,
}

impl DirectoryWatch {
    /// Creates a watch without directories.
    ///
    /// # Errors
    ///
    /// `EMFILE` if the user has as many inotify instances as the limit allows
    /// (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let ready = sys::watched(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(Self { inotify, ready })
    }

    /// Adds a directory. Adding it twice changes nothing.
    ///
    /// # Errors
    ///
    /// The error of inotify_add_watch(2): `ENOENT` or `ENOTDIR` if there is no such directory.
    pub fn add(&mut self, directory: &Path) -> io::Result<()> {
        let events =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(directory, events)?;
        Ok(())
    }

    /// Waits for the next change and consumes all changes that are queued. Cancel-safe.
    pub async fn changed(&self) {
        if let Ok(mut ready) = self.ready.readable().await {
            // All queued changes count as one, because the caller reads the whole directory again
            // anyway.
            while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
            ready.clear_ready();
        }
    }
}
