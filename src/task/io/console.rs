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

/// `sun_path` holds 108 bytes with its NUL; two less are what containerd's own clients allow.
const LONGEST_PATH: usize = 106;

/// The runtime has ended when we ask, so the terminal is queued or never comes.
const WAIT: Duration = Duration::from_secs(30);

/// A listening socket in a folder of its own that nobody else may enter. Both go with it.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
    folder: PathBuf,
}

impl ConsoleSocket {
    /// Below `$XDG_RUNTIME_DIR`, or where that is not set or does not do, in the folder for
    /// temporary files.
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
        // mkdtemp(3) makes it 0700.
        let folder = nix::unistd::mkdtemp(&parent.join("lookout-pty-XXXXXX"))?;
        let path = folder.join("s");
        let bound = match path.as_os_str().as_bytes().len() < LONGEST_PATH {
            true => StdListener::bind(&path),
            false => Err(nix::Error::ENAMETOOLONG.into()),
        };
        let listener = bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        match listener {
            Ok(listener) => Ok(ConsoleSocket { listener, path, folder }),
            Err(error) => {
                remove(&path, &folder);
                Err(error)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal's master, non-blocking. The socket is removed, whatever comes.
    pub(super) async fn receive(self) -> io::Result<OwnedFd> {
        let master = timeout(WAIT, async {
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
        if !nix::unistd::isatty(&master)? {
            return Err(nix::Error::ENOTTY.into());
        }
        // Ours alone by now: the runtime has closed its copy or is about to.
        flow::set_nonblocking(&master, true)?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        remove(&self.path, &self.folder);
    }
}

fn remove(path: &Path, folder: &Path) {
    // Nothing to be done about a failure, and nothing else is ever put there.
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_dir(folder);
}
