//! The listener's process: its lock, its socket, its signals and its main loop.

use std::{
    fs::{self, OpenOptions},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, socket},
    },
};

use super::{
    client::{Client, SEND_BUFFER},
    listener::Listener,
    netlink::Connector,
};
use crate::{
    linux::unix_socket::{self, bind_private},
    platform::lock::{Lock, lock_unless},
    sys::fd::accept,
};

/// How long a listener without clients continues to run.
const IDLE_LIFETIME: Duration = Duration::from_secs(5);

/// How many shims one listener serves. The connection of a further shim is closed at once.
const CLIENTS_LIMIT: usize = 1024;

/// How long a new listener waits for the lock of an older one that is about to exit.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before the next accept(2) after one that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The path of the listener's socket.
pub(super) fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("connector.sock")
}

/// Runs the node's listener: serves all shims on `connector.sock` in `runtime_dir`. Returns 5
/// seconds after the last shim has disconnected, or on `SIGTERM`, `SIGINT` or `SIGHUP`. Returns at
/// once if another process holds the lock `connector.lock` and serves.
///
/// Must run as the only thread of a process: another thread could receive one of the signals, and
/// the signal would end the process before it has stopped listening. The listener sends
/// `PROC_CN_MCAST_IGNORE` to the kernel on every way out except `SIGKILL`. After a `SIGKILL` the
/// kernel continues to create events for every process of the node until the next boot
/// (drivers/connector/cn_proc.c). That costs a few microseconds per process and has no other
/// effect.
///
/// `confine` is called once the socket is bound. From then on this process reads `/proc`, serves
/// its socket, and removes it at the end.
///
/// # Errors
///
/// The error of the kernel if it refuses the proc connector
/// ([`probe_connector`](crate::observe::source::probe::probe_connector) finds the reason), the
/// socket or the lock.
pub fn serve(runtime_dir: &Path, confine: impl FnOnce()) -> io::Result<()> {
    serve_with(runtime_dir, IDLE_LIFETIME, SEND_BUFFER, confine)
}

/// Like [`serve`], but returns when there was no client for `linger`, and confines nothing.
///
/// # Errors
///
/// Those of [`serve`].
pub fn serve_until_idle(runtime_dir: &Path, linger: Duration) -> io::Result<()> {
    serve_with(runtime_dir, linger, SEND_BUFFER, || {})
}

/// Like [`serve_until_idle`]. `buffer` is the size in bytes of each client's send buffer.
pub(super) fn serve_with(
    runtime_dir: &Path,
    linger: Duration,
    buffer: usize,
    confine: impl FnOnce(),
) -> io::Result<()> {
    let Some(_lock) = lock(runtime_dir)? else { return Ok(()) };
    // The signals are blocked before the request to listen, because after that request the process
    // must not end before `Connector` is dropped.
    let signals = Signals::block()?;
    let mut listener = Listener::new(Connector::listen()?);
    let socket = ListeningSocket::bind(&socket_path(runtime_dir))?;
    confine();
    let mut idle_since = Instant::now();
    // While no connection can be accepted, the listening socket stays readable, so it is not polled
    // again at once.
    let mut accept_again: Option<Instant> = None;
    loop {
        if !listener.is_idle() {
            idle_since = Instant::now();
        }
        let timeout = if listener.has_pending() {
            Duration::ZERO
        } else if listener.is_idle() {
            linger.saturating_sub(idle_since.elapsed())
        } else if listener.has_unreported_loss() {
            // Only POLLIN is polled, so a socket that has free space again does not wake this loop.
            Duration::from_millis(20)
        } else {
            Duration::MAX
        };
        if listener.is_idle() && timeout.is_zero() && !listener.has_pending() {
            return Ok(());
        }
        let is_accepting = accept_again.is_none_or(|again| again <= Instant::now());
        let timeout = if is_accepting { timeout } else { timeout.min(ACCEPT_PAUSE) };
        let clients: Vec<u64> = listener.clients().map(|(number, _)| number).collect();
        let ready = {
            // `ready[0]` to `ready[2]` below are the results of these three descriptors; those of
            // the clients follow.
            let polled = [signals.0.as_fd(), socket.fd.as_fd(), listener.events()].into_iter();
            let polled = polled.chain(listener.clients().map(|(_, fd)| fd));
            let mut ready: Vec<_> = polled.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            if !is_accepting {
                ready[1].set_events(PollFlags::empty());
            }
            // A duration that has too many milliseconds for poll(2) means: no timeout.
            match poll(&mut ready, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            ready.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>()
        };
        if ready[0] {
            // Reads the signal, so that it does not end the process once it is unblocked.
            let _ = signals.0.read_signal();
            return Ok(());
        }
        // The kernel's events are handled before the clients' requests, because the processes of
        // the events may end soon, and then /proc has nothing about them.
        if ready[2] || listener.has_pending() {
            listener.run_iteration()?;
        } else {
            listener.flush_all();
        }
        for (number, _) in clients.iter().zip(&ready[3..]).filter(|(_, ready)| **ready) {
            listener.read_requests(*number);
        }
        if ready[1] {
            let paused = socket.accept(&mut listener, buffer).is_err();
            accept_again = paused.then(|| Instant::now() + ACCEPT_PAUSE);
        }
    }
}

/// Takes the lock of the node's listener. `None` if another process already serves.
fn lock(runtime_dir: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(runtime_dir.join("connector.lock"))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let socket = socket_path(runtime_dir);
    // A process that has the lock and does not accept connections has just started, or is about to
    // exit: this waits until the process accepts connections or releases the lock.
    lock_unless(file, Duration::from_millis(5), || {
        open_socket(&socket).is_ok() || Instant::now() >= deadline
    })
}

/// Connects to the listener's socket at `path`. Fails if no process listens on it.
pub(super) fn open_socket(path: &Path) -> io::Result<OwnedFd> {
    let fd = new_socket()?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Creates a socket of type `SOCK_SEQPACKET`: it keeps order and message boundaries, and reports
/// the end of the peer, which a datagram socket does not.
fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

/// The socket that shims connect to.
struct ListeningSocket {
    fd: OwnedFd,
    path: PathBuf,
}

impl ListeningSocket {
    fn bind(path: &Path) -> io::Result<Self> {
        // A listener that was killed has left its socket. It can be removed, because the lock
        // proves that no other process serves it.
        unix_socket::remove(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = bind_private(path, SockType::SeqPacket, flags, Backlog::new(64)?)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Accepts all connections that wait.
    ///
    /// # Errors
    ///
    /// A connection waits and cannot be accepted, for example because this process has no
    /// descriptor left.
    fn accept(&self, listener: &mut Listener, buffer: usize) -> io::Result<()> {
        loop {
            let fd = match accept(&self.fd) {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // Beyond the limit the connection is accepted and closed: left in the backlog, it would
            // keep the listening socket readable, and poll(2) would never wait.
            if listener.clients().count() < CLIENTS_LIMIT {
                listener.admit(Client::new(fd, buffer));
            }
        }
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        // The lock is still held, because it was taken before this value was created and is dropped
        // after it. So the socket cannot be that of another listener. Shims in the backlog see
        // their connection closed.
        let _ = fs::remove_file(&self.path);
    }
}

/// The signals that end the listener, blocked and readable from a descriptor; and the signal mask
/// from before, which is restored when the value is dropped.
struct Signals(SignalFd, SigSet);

impl Signals {
    fn block() -> io::Result<Self> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
        let before = SigSet::thread_get_mask()?;
        set.thread_block()?;
        Ok(Self(
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            before,
        ))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.1.thread_set_mask();
    }
}
