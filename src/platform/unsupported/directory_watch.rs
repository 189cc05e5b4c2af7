//! Changes in directories are not reported here: callers read the directory again and again.

use std::{io, path::Path};

/// Cannot be made on this system.
#[derive(Debug)]
pub enum DirectoryWatch {}

impl DirectoryWatch {
    /// # Errors
    ///
    /// `Unsupported`, always.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    ///
    /// None: there is no value of this type.
    pub fn add(&mut self, _directory: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Waits for the next change.
    #[expect(clippy::unused_async, reason = "the same signature as on Linux")]
    pub async fn changed(&self) {
        match *self {}
    }
}
