//! The shim's socket: where it is, who may bind it, who removes it.
//!
//! A path socket, never an abstract one (CVE-2020-15257): 0600 in a folder that is 0700.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{linux::unix_socket, platform::lock::lock};

/// The way to reach a shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    path: PathBuf,
}

/// Who serves at a socket.
#[derive(Debug)]
pub(super) enum Bound {
    /// Nobody did; now this process may.
    Ours(UnixListener),
    /// The shim of the same group does already.
    Theirs,
}

/// A socket that could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The folder is too deep.
    #[error("socket path {} is longer than {} bytes", path.display(), unix_socket::PATH_MAX)]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// A step failed.
    #[error("failed to {action} {}", path.display())]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

impl Socket {
    /// The socket of the shim for `group` (a pod, or a container by itself) of the containerd at
    /// `address`. The name is the one that containerd's own shims derive.
    pub(super) fn of(
        folder: &Path,
        address: &str,
        namespace: &str,
        group: &str,
    ) -> Result<Self, SocketError> {
        let identity = Path::new(address).join(namespace).join(group);
        let hash = Sha256::digest(identity.as_os_str().as_encoded_bytes());
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(name);
        if !unix_socket::fits(&path) {
            return Err(SocketError::TooLong { path });
        }
        Ok(Self { path })
    }

    /// The socket at a `unix://` address; none for another kind.
    pub(super) fn at(address: &str) -> Option<Self> {
        address.trim().strip_prefix("unix://").map(|path| Self { path: path.into() })
    }

    /// Its `unix://` address.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Binds it, unless somebody serves there. One process at a time does this in a folder, so that
    /// of two starts for one pod the second finds the first's socket listening, never half made.
    pub(super) fn bind(&self) -> Result<Bound, SocketError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::System { action, path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(error("create", folder))?;
        let opened = File::open(folder).map_err(error("open", folder))?;
        let _lock = lock(opened).map_err(error("lock", folder))?;
        if unix_socket::is_served(&self.path) {
            return Ok(Bound::Theirs);
        }
        self.remove_file().map_err(error("remove", &self.path))?;
        let listener = unix_socket::listen_at(&self.path).map_err(error("bind", &self.path))?;
        Ok(Bound::Ours(listener))
    }

    /// Removes the socket of a dead shim; one that somebody serves is left alone.
    pub(super) fn remove_if_dead(&self) {
        if UnixStream::connect(&self.path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            let _ = self.remove_file();
        }
    }

    /// Which file it is now, to remove that one and no other later.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Removes it if it is still the file that [`identity`](Self::identity) told of.
    pub(super) fn remove_own(&self, identity: Option<(u64, u64)>) {
        if identity.is_some() && self.identity() == identity {
            let _ = self.remove_file();
        }
    }

    fn remove_file(&self) -> io::Result<()> {
        unix_socket::remove(&self.path)
    }
}
