//! A directory in the bundle for the files of one call of the runtime. Calls of one container run
//! at the same time, so no two of them may share a file.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::workers::{self, Work};

/// The longest time that a call of the runtime waits for the bundle's disk, before and after it.
pub(super) const DISK_MAX: Duration = Duration::from_secs(1);

/// A new directory with mode 0700. It is removed with its files by [`remove`](Self::remove), or
/// soon after it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates a directory `call.NUMBER` in `bundle`. Blocks on the bundle's filesystem.
    ///
    /// # Errors
    ///
    /// The error of mkdir(2).
    pub fn make(bundle: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        loop {
            let path = bundle.join(format!("call.{}", NEXT.fetch_add(1, Ordering::Relaxed)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                // A shim that was killed has left it, or another shim of this bundle uses it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the directory with its files. A disk that hangs is not waited for; then they are
    /// removed when it answers.
    pub async fn remove(mut self) {
        let path = std::mem::take(&mut self.path);
        let removed = workers::run(Work::File, move || drop(fs::remove_dir_all(path)));
        let _ = tokio::time::timeout(DISK_MAX, removed).await;
    }

    /// The path of a file in this directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if path.as_os_str().is_empty() {
            return; // removed
        }
        workers::detach(Work::File, move || drop(fs::remove_dir_all(path)));
    }
}
