//! A daemon's instance: one process has it, with its pid file and its socket.

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
    client::daemon::folder,
    linux::unix_socket,
    platform::lock::{Lock, PathError, try_lock_path},
    sys::pidfd,
};

/// How long a daemon that is to be replaced may take to end after TERM.
const GRACE: Duration = Duration::from_secs(3);

/// How long a daemon may be between its lock and its pid.
const BEGINNING: Duration = Duration::from_secs(2);

/// The instance, and what is to be removed when it is left.
#[derive(Debug)]
pub struct InstanceLock {
    socket: PathBuf,
    pid_file: PathBuf,
    /// Whoever has the lock is the daemon, and its pid is in the file.
    _lock: Lock,
}

/// Who has the instance.
#[derive(Debug)]
pub enum Claim {
    /// This process, with the socket.
    Ours(InstanceLock, UnixListener),
    /// A daemon of this pid.
    Theirs(i32),
}

/// The instance cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The path does not fit.
    #[error("socket path {} is longer than {} bytes", path.display(), unix_socket::PATH_MAX)]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Somebody answers at the socket and does not have the lock.
    #[error("something else serves at {}", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
    },
    /// It does not end.
    #[error("the daemon with pid {pid} does not end")]
    Stays {
        /// Its pid.
        pid: i32,
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

/// Where the registry is kept: `$LOOKOUT_STATE_DIR`; else `registry` in `$LOOKOUT_RUNTIME_DIR`;
/// else `/var/lib/lookout`, for a user `$XDG_STATE_HOME/lookout` (`~/.local/state/lookout`).
#[must_use]
pub fn state_dir() -> PathBuf {
    let set =
        |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = || match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(state), _) => state.join("lookout"),
        (None, Some(home)) => home.join(".local/state/lookout"),
        (None, None) => folder().join("registry"),
    };
    let fixed =
        || if nix::unistd::geteuid().is_root() { "/var/lib/lookout".into() } else { users() };
    let of_runtime = || set("LOOKOUT_RUNTIME_DIR").map(|folder| folder.join("registry"));
    set("LOOKOUT_STATE_DIR").or_else(of_runtime).unwrap_or_else(fixed)
}

/// Takes the instance of a socket, unless a daemon has it; with `force` that daemon is ended first:
/// TERM, and KILL after 3 s. A socket that nobody answers at is removed. Called before there are
/// other threads: the process's file mode mask is changed for a moment.
///
/// # Errors
///
/// [`InstanceError`].
pub fn take(socket: &Path, force: bool) -> Result<Claim, InstanceError> {
    if !unix_socket::fits(socket) {
        return Err(InstanceError::TooLong { path: socket.to_owned() });
    }
    let folder =
        socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("create", folder))?;
    let pid_file = socket.with_extension("pid");
    let mut lock = lock(&pid_file)?;
    if lock.is_none() {
        let pid = pid_of(&pid_file)?;
        if !force {
            return Ok(Claim::Theirs(pid));
        }
        lock = end(pid, &pid_file)?;
    }
    let lock =
        lock.ok_or_else(|| InstanceError::Stays { pid: pid_of(&pid_file).unwrap_or_default() })?;
    lock.set_len(0)
        .and_then(|()| writeln!(&*lock, "{}", std::process::id()))
        .map_err(failed("write", &pid_file))?;
    let listener = bind(socket).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => InstanceError::Foreign { path: socket.to_owned() },
        _ => failed("bind", socket)(error),
    })?;
    Ok(Claim::Ours(InstanceLock { socket: socket.to_owned(), pid_file, _lock: lock }, listener))
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // The lock is held: both are ours.
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.pid_file);
    }
}

/// Listens at `socket`, for its owner alone. One at which no process answers is removed first.
///
/// # Errors
///
/// `AddrInUse` if a process answers; what the system returned.
pub(super) fn bind(socket: &Path) -> io::Result<UnixListener> {
    if unix_socket::is_served(socket) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    unix_socket::remove(socket)?;
    unix_socket::listen_at(socket)
}

/// The lock on the pid file; `None` if another process has it.
fn lock(path: &Path) -> Result<Option<Lock>, InstanceError> {
    try_lock_path(path).map_err(|PathError { action, source }| failed(action, path)(source))
}

/// The pid in the file of a daemon that has the lock; it writes it right after it got that.
fn pid_of(pid_file: &Path) -> Result<i32, InstanceError> {
    let until = Instant::now() + BEGINNING;
    loop {
        let mut text = String::new();
        let read = File::open(pid_file).and_then(|mut file| file.read_to_string(&mut text));
        match (read, text.trim().parse::<i32>()) {
            (Ok(_), Ok(pid)) if pid > 0 => return Ok(pid),
            (Err(error), _) if Instant::now() > until => {
                return Err(failed("read", pid_file)(error));
            }
            _ if Instant::now() > until => {
                return Err(failed("read", pid_file)(io::ErrorKind::InvalidData.into()));
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Ends a daemon and takes its lock.
fn end(pid: i32, pid_file: &Path) -> Result<Option<Lock>, InstanceError> {
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        // It has ended meanwhile.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return lock(pid_file),
        Err(error) => return Err(failed("signal the daemon of", pid_file)(error)),
    };
    for signal in [SIGTERM, SIGKILL] {
        // While the lock is held, the process of the descriptor is the one that wrote its pid.
        if let Some(lock) = lock(pid_file)? {
            return Ok(Some(lock));
        }
        pidfd::send_signal(&pidfd, signal).or_else(|error| match error.raw_os_error() {
            Some(nix::libc::ESRCH) => Ok(()),
            _ => Err(failed("signal the daemon of", pid_file)(error)),
        })?;
        let mut ended = [PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), PollFlags::POLLIN)];
        let grace = PollTimeout::try_from(GRACE).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut ended, grace);
    }
    lock(pid_file)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> InstanceError + use<> {
    let path = path.to_owned();
    move |source| InstanceError::System { action, path: path.clone(), source }
}
