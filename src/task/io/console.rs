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

/// The length in bytes that a socket path must not reach. `sun_path` holds 108 bytes with the NUL;
/// containerd's own clients use two bytes less.
const MAX_PATH_LEN: usize = 106;

/// The longest time to wait for the terminal. The wait begins after the runtime has ended, so the
/// terminal is already queued or will never be sent.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// A listening socket in a directory of its own that no other user may enter. Dropping this value
/// removes the socket and the directory.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
    directory: PathBuf,
}

impl ConsoleSocket {
    /// Creates the socket below `$XDG_RUNTIME_DIR`. If that variable is not set or the directory
    /// cannot be used, creates the socket below the directory for temporary files.
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
            // tokio requires that the listener is already non-blocking.
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
        // The descriptor was sent by another program, so its type must be checked.
        if !nix::unistd::isatty(&master)? {
            return Err(nix::Error::ENOTTY.into());
        }
        // The flag belongs to the open file description, which the runtime shares. This is safe,
        // because the runtime has closed its descriptor or is about to close it.
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
    // Errors are ignored, because they cannot be handled here. The directory contains only the
    // socket.
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_dir(directory);
}
