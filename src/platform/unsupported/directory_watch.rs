//! Reports of changes in directories, which do not exist here: callers poll the directory instead.

use std::{io, path::Path};

/// Watches directories. There is no value of this type on this system.
#[derive(Debug)]
pub enum DirectoryWatch {}

impl DirectoryWatch {
    /// Would start to watch.
    ///
    /// # Errors
    ///
    /// `Unsupported`, always. Callers poll then.
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
