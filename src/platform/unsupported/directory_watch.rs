//! Reports of changes in directories. This system has no such reports, so callers poll the
//! directory.

use std::{io, path::Path};

/// Watches directories. There is no value of this type on this system.
#[derive(Debug)]
pub enum DirectoryWatch {}

impl DirectoryWatch {
    /// Would start to watch.
    ///
    /// # Errors
    ///
    /// `Unsupported`, always. Callers then poll the directory.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Would add a directory.
    ///
    /// # Errors
    ///
    /// Cannot be called: there is no value of this type.
    pub fn add(&mut self, _directory: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Would wait for the next change. Cannot be called.
    #[expect(clippy::unused_async, reason = "the same signature as on Linux")]
    pub async fn changed(&self) {
        match *self {}
    }
}
