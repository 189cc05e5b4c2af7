//! The shim's socket: its path, and how it is bound and removed.
//!
//! It is a socket with a path, never an abstract one (CVE-2020-15257), with mode 0600 in a
//! directory with mode 0700.

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

/// The path of a shim's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    path: PathBuf,
}

/// The result of [`Socket::bind`].
#[derive(Debug)]
pub(super) enum Bound {
    /// No other process listened on the socket; now this process does.
    Ours(UnixListener),
    /// Another shim of the same group already listens on the socket.
    Theirs,
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The path of the socket does not fit into a `sockaddr_un`.
    #[error("socket path {} is longer than {} bytes", path.display(), unix_socket::PATH_MAX)]
    TooLong {
        /// The path of the socket.
        path: PathBuf,
    },
    /// A step of binding the socket failed with an error of the system.
    #[error("failed to {action} {}", path.display())]
    System {
        /// The failed operation as a verb, such as `bind`.
        action: &'static str,
        /// The file or directory on which the operation failed.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
}

impl Socket {
    /// The socket of the shim for `group` (a pod, or a container without one) of the containerd at
    /// `address`. The file has the name that containerd's own shims would use.
    pub(super) fn of(
        directory: &Path,
        address: &str,
        namespace: &str,
        group: &str,
    ) -> Result<Self, SocketError> {
        // The group is free text from an annotation, and stays one component of this path: joined
        // as a path, `/x` or `../b/x` would name the shim of another containerd or namespace.
        let mut identity = Path::new(address).join(namespace).into_os_string();
        identity.push("/");
        identity.push(group);
        let hash = Sha256::digest(identity.as_encoded_bytes());
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = directory.join(name);
        if !unix_socket::fits(&path) {
            return Err(SocketError::TooLong { path });
        }
        Ok(Self { path })
    }

    /// The socket at a `unix://` address; `None` for another kind of address.
    pub(super) fn at(address: &str) -> Option<Self> {
        address.trim().strip_prefix("unix://").map(|path| Self { path: path.into() })
    }

    /// The `unix://` address of the socket.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Binds the socket, unless another process already listens on it. The directory is locked
    /// meanwhile: if two shims start for one pod, the second finds the socket of the first already
    /// listening. Waits for the lock, but not for another shim while it has the lock: all shims of
    /// the node would wait with it.
    pub(super) fn bind(&self) -> Result<Bound, SocketError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::System { action, path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(error("create", directory))?;
        let opened = File::open(directory).map_err(error("open", directory))?;
        let _lock = lock(opened).map_err(error("lock", directory))?;
        if unix_socket::is_served(&self.path) {
            return Ok(Bound::Theirs);
        }
        // A dead shim of the same group may have left its socket, which would make bind(2) fail.
        self.remove_file().map_err(error("remove", &self.path))?;
        let listener = unix_socket::listen_at(&self.path).map_err(error("bind", &self.path))?;
        Ok(Bound::Ours(listener))
    }

    /// Removes the socket if its shim is dead. A socket on which a process listens is not removed.
    pub(super) fn remove_if_dead(&self) {
        // Only ECONNREFUSED means that no process listens. After another error the socket may be in
        // use.
        if UnixStream::connect(&self.path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            let _ = self.remove_file();
        }
    }

    /// The device and inode of the socket's file, for [`remove_own`](Self::remove_own); `None` if
    /// there is no file.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Removes the socket's file if it still has this [`identity`](Self::identity). Another shim
    /// may have replaced it.
    pub(super) fn remove_own(&self, identity: Option<(u64, u64)>) {
        if identity.is_some() && self.identity() == identity {
            let _ = self.remove_file();
        }
    }

    fn remove_file(&self) -> io::Result<()> {
        unix_socket::remove(&self.path)
    }
}
