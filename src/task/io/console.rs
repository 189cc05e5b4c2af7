//! The socket on which an OCI runtime hands over a terminal (`--console-socket`).

use std::{
    env, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, net::UnixListener as StdListener},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{io::Interest, net::UnixListener, time::timeout};

use super::{IoError, flow};
use crate::sys;

/// Bytes of a socket path at most, exclusive. `sun_path` holds 108 with the NUL; containerd's own
/// clients allow two less.
const MAX_PATH_LEN: usize = 106;

/// How long to wait for the terminal. The runtime has ended by then, so the terminal is queued
/// already or never comes.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// A listening socket in a directory of its own that no other user may enter. Dropping it removes
/// both.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
    directory: PathBuf,
}

impl ConsoleSocket {
    /// Creates the socket below `$XDG_RUNTIME_DIR`. If that is not set or cannot be used, below the
    /// directory for temporary files.
    pub(super) fn bind() -> Result<ConsoleSocket, IoError> {
        let preferred = env::var_os("XDG_RUNTIME_DIR").filter(|parent| !parent.is_empty());
        if let Some(socket) =
            preferred.and_then(|parent| ConsoleSocket::bind_below(Path::new(&parent)).ok())
        {
            return Ok(socket);
        }
        let parent = env::temp_dir();
        ConsoleSocket::bind_below(&parent)
            .map_err(|source| IoError::ConsoleSocket { folder: parent, source })
    }

    fn bind_below(parent: &Path) -> io::Result<ConsoleSocket> {
        // mkdtemp(3) creates the directory with mode 0700.
        let directory = nix::unistd::mkdtemp(&parent.join("lookout-pty-XXXXXX"))?;
        let path = directory.join("s");
        let bound = match path.as_os_str().as_bytes().len() < MAX_PATH_LEN {
            true => StdListener::bind(&path),
            false => Err(nix::Error::ENAMETOOLONG.into()),
        };
        let listener = bound.and_then(|listener| {
            // tokio requires a listener that is non-blocking already.
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        match listener {
            Ok(listener) => Ok(ConsoleSocket { listener, path, directory }),
            Err(error) => {
                remove(&path, &directory);
                Err(error)
            }
        }
    }

    /// The path of the socket, for the runtime's `--console-socket`.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Receives the terminal's master and makes it non-blocking. The socket is removed even if this
    /// fails.
    pub(super) async fn receive(self) -> io::Result<OwnedFd> {
        let master = timeout(RECEIVE_TIMEOUT, async {
            let (stream, _) = self.listener.accept().await?;
            loop {
                stream.readable().await?;
                match stream.try_io(Interest::READABLE, || sys::pty::receive_descriptor(&stream)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        });
        let master = master.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // The descriptor comes from another program, so its type is not certain.
        if !nix::unistd::isatty(&master)? {
            return Err(nix::Error::ENOTTY.into());
        }
        // The flag belongs to the open file description, and the runtime has closed its copy or is
        // about to.
        flow::set_nonblocking(&master, true)?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        remove(&self.path, &self.directory);
    }
}

fn remove(path: &Path, directory: &Path) {
    // A failure cannot be handled here. The directory holds nothing but the socket.
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_dir(directory);
}
