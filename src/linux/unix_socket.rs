//! Unix sockets with a path.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{fs::FileTypeExt as _, net::UnixListener},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
        },
        stat::{Mode, fchmod},
    },
};

/// The longest path that fits into `sockaddr_un` with its terminating zero, in bytes (unix(7)).
pub(crate) const PATH_MAX: usize = 107;

/// Whether the path of a socket fits into its address.
pub(crate) fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= PATH_MAX
}

/// Listens at `path` with a socket of mode 0600. The socket is blocking and close-on-exec.
///
/// # Errors
///
/// `AddrInUse` if there is a file at `path`; otherwise the error of the failed system call.
pub(crate) fn listen_at(path: &Path) -> io::Result<UnixListener> {
    // `MAXALLOWABLE` is -1: as many as net.core.somaxconn allows. A backlog that is too small would
    // refuse clients.
    bind_private(path, SockType::Stream, SockFlag::SOCK_CLOEXEC, Backlog::MAXALLOWABLE)
        .map(UnixListener::from)
}

/// Makes a listening socket of mode 0600 at `path`.
///
/// # Errors
///
/// As [`listen_at`].
pub(crate) fn bind_private(
    path: &Path,
    kind: SockType,
    flags: SockFlag,
    backlog: Backlog,
) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, kind, flags, None)?;
    // The mode is set before bind(2): the file gets the mode of the socket's own inode
    // (`unix_bind_bsd`, net/unix/af_unix.c), so no other user can connect at any time. Changing the
    // process's umask instead would affect its other threads.
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, backlog)?;
    Ok(fd)
}

/// Whether a process listens at `path`. Does not wait: a process that is stopped, and has as many
/// unaccepted connections as it allows, listens too.
pub(crate) fn is_served(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(fd) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let connected = UnixAddr::new(path).and_then(|address| connect(fd.as_raw_fd(), &address));
    // EAGAIN: the queue of the listening socket is full (`unix_stream_connect`).
    matches!(connected, Ok(()) | Err(Errno::EAGAIN))
}

/// Removes the socket at `path`. A path without a file is no error.
///
/// # Errors
///
/// `AlreadyExists` for a file that is not a socket, which is not removed; otherwise the error of
/// the failed system call.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Check that the socket has mode 0600 and accepts connections, and that only sockets are
    /// removed.
    #[test]
    fn a_socket_is_private_and_only_sockets_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(!is_served(&path));
        remove(&path).unwrap();
        let listener = listen_at(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(is_served(&path));
        let full = listen_at(&directory.path().join("full")).unwrap();
        listen(&full, Backlog::new(0).unwrap()).unwrap();
        let queued = std::os::unix::net::UnixStream::connect(directory.path().join("full"));
        assert!(is_served(&directory.path().join("full")), "its queue is full: {queued:?}");
        drop((full, queued));
        assert!(!is_served(&directory.path().join("full")));
        assert_eq!(listen_at(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!is_served(&path), "the file is left, but the socket is closed");
        remove(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }

    /// Check the limit against that of the kernel.
    #[test]
    fn the_longest_path_fits_and_a_longer_path_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let length = directory.path().as_os_str().len();
        let longest = directory.path().join("x".repeat(PATH_MAX - length - 1));
        assert!(fits(&longest));
        listen_at(&longest).unwrap();
        let longer = longest.with_added_extension("y");
        assert!(!fits(&longer) && listen_at(&longer).is_err());
    }
}
