//! The instance lock: of all daemons with the same socket path, only one at a time has the socket
//! and the pid file.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::{fs::DirBuilderExt as _, net::UnixListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    libc::{SIGKILL, SIGTERM},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    client::daemon::daemon_directory,
    linux::unix_socket,
    platform::lock::{Lock, PathError, try_lock_path},
    sys::pidfd,
};

/// How long a daemon that is replaced may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(3);

/// How long a starting daemon may take from locking its pid file until it has written its pid into
/// the file.
const PID_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Proof that this process is the daemon of a socket. Dropping it removes the socket and the pid
/// file.
#[derive(Debug)]
pub struct InstanceLock {
    socket: PathBuf,
    pid_file: PathBuf,
    /// The lock on the pid file. The process that holds this lock is the daemon, and the pid file
    /// has its pid.
    _lock: Lock,
}

/// The result of [`claim_socket`]: which process is the daemon of the socket.
#[derive(Debug)]
pub enum Claim {
    /// This process is the daemon now, and listens at the socket.
    ThisProcess(InstanceLock, UnixListener),
    /// A daemon with this pid runs already.
    OtherDaemon(i32),
}

/// Why the instance lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The socket's path does not fit into a `sockaddr_un`.
    #[error("socket path {} is longer than {} bytes", path.display(), unix_socket::PATH_MAX)]
    TooLong {
        /// The path of the socket.
        path: PathBuf,
    },
    /// A process that does not have the lock answers at the socket.
    #[error("a process without the daemon's lock serves at {}", path.display())]
    NotADaemon {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The daemon that was to be replaced is still there after SIGKILL.
    #[error("the daemon with pid {pid} still runs after SIGKILL")]
    StillRuns {
        /// The pid of that daemon, from its pid file.
        pid: i32,
    },
    /// A system call failed while the instance was claimed.
    #[error("failed to {action} {}", path.display())]
    System {
        /// The step that failed, as a verb.
        action: &'static str,
        /// The file or directory of the failed step.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
}

/// The directory of the registry's file: `$LOOKOUT_STATE_DIR`; else `registry` in
/// `$LOOKOUT_RUNTIME_DIR`; else, for root, `/var/lib/lookout`; else `$XDG_STATE_HOME/lookout` or
/// `~/.local/state/lookout`.
#[must_use]
pub fn state_dir() -> PathBuf {
    let set =
        |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = || match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(state), _) => state.join("lookout"),
        (None, Some(home)) => home.join(".local/state/lookout"),
        (None, None) => daemon_directory().join("registry"),
    };
    let fixed =
        || if nix::unistd::geteuid().is_root() { "/var/lib/lookout".into() } else { users() };
    let of_runtime = || set("LOOKOUT_RUNTIME_DIR").map(|directory| directory.join("registry"));
    set("LOOKOUT_STATE_DIR").or_else(of_runtime).unwrap_or_else(fixed)
}

/// Takes the instance lock of a socket and listens there, unless another daemon has the lock. With
/// `force`, that daemon is ended first: SIGTERM, and SIGKILL after 3 s. A socket file at which no
/// process answers is removed. Blocks.
///
/// # Errors
///
/// [`InstanceError`].
pub fn claim_socket(socket: &Path, force: bool) -> Result<Claim, InstanceError> {
    if !unix_socket::fits(socket) {
        return Err(InstanceError::TooLong { path: socket.to_owned() });
    }
    // The parent of a bare file name is the empty path.
    let directory =
        socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(system_error("create", directory))?;
    let pid_file = socket.with_extension("pid");
    let lock = match lock_pid_file(&pid_file)? {
        Some(lock) => lock,
        None => {
            let pid = read_pid(&pid_file)?;
            if !force {
                return Ok(Claim::OtherDaemon(pid));
            }
            end_daemon(pid, &pid_file)?.ok_or(InstanceError::StillRuns { pid })?
        }
    };
    // The pid file may still have the pid of a daemon that was killed.
    lock.set_len(0)
        .and_then(|()| writeln!(&*lock, "{}", std::process::id()))
        .map_err(system_error("write", &pid_file))?;
    let listener = bind_socket(socket).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => InstanceError::NotADaemon { path: socket.to_owned() },
        _ => system_error("bind", socket)(error),
    })?;
    Ok(Claim::ThisProcess(
        InstanceLock { socket: socket.to_owned(), pid_file, _lock: lock },
        listener,
    ))
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // The fields, and so the lock, are dropped after this: neither file can belong to another
        // daemon yet.
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.pid_file);
    }
}

/// Listens at `socket`, with access for its owner only. A socket file at which no process answers
/// is removed first.
///
/// # Errors
///
/// `AddrInUse` if a process answers at the socket; otherwise the error of the failed system call.
pub(super) fn bind_socket(socket: &Path) -> io::Result<UnixListener> {
    if unix_socket::is_served(socket) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    unix_socket::remove(socket)?;
    unix_socket::listen_at(socket)
}

/// Takes the lock on the pid file; `None` if another process has the lock.
fn lock_pid_file(path: &Path) -> Result<Option<Lock>, InstanceError> {
    try_lock_path(path).map_err(|PathError { action, source }| system_error(action, path)(source))
}

/// Reads the pid file of a daemon that has the lock. The daemon writes its pid right after it took
/// the lock, so an empty file is read again for a while.
fn read_pid(pid_file: &Path) -> Result<i32, InstanceError> {
    let until = Instant::now() + PID_WRITE_TIMEOUT;
    loop {
        let mut text = String::new();
        let read = File::open(pid_file).and_then(|mut file| file.read_to_string(&mut text));
        match (read, text.trim().parse::<i32>()) {
            (Ok(_), Ok(pid)) if pid > 0 => return Ok(pid),
            (Err(error), _) if Instant::now() > until => {
                return Err(system_error("read", pid_file)(error));
            }
            _ if Instant::now() > until => {
                return Err(system_error("read", pid_file)(io::ErrorKind::InvalidData.into()));
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Ends the daemon `pid` by SIGTERM, then SIGKILL, and takes its lock. `None` if the lock is still
/// held after SIGKILL.
fn end_daemon(pid: i32, pid_file: &Path) -> Result<Option<Lock>, InstanceError> {
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        // The daemon has ended since its pid was read.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {
            return lock_pid_file(pid_file);
        }
        Err(error) => return Err(system_error("signal the daemon of", pid_file)(error)),
    };
    for signal in [SIGTERM, SIGKILL] {
        // The pid may have been reused before the pidfd was opened. While the lock is held, the
        // daemon that wrote the pid is alive, so the pidfd refers to this daemon.
        if let Some(lock) = lock_pid_file(pid_file)? {
            return Ok(Some(lock));
        }
        pidfd::send_signal(&pidfd, signal).or_else(|error| match error.raw_os_error() {
            Some(nix::libc::ESRCH) => Ok(()),
            _ => Err(system_error("signal the daemon of", pid_file)(error)),
        })?;
        let mut ended = [PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), PollFlags::POLLIN)];
        let grace = PollTimeout::try_from(TERM_GRACE).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut ended, grace);
    }
    lock_pid_file(pid_file)
}

fn system_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> InstanceError + use<> {
    let path = path.to_owned();
    move |source| InstanceError::System { action, path: path.clone(), source }
}
