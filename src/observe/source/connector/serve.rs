//! The life of the listener's process.

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
    client::{BUFFER, Client},
    listener::Listener,
    netlink::Connector,
};
use crate::{
    linux::unix_socket::{self, bind_private},
    platform::lock::{Lock, lock_unless},
    sys::fd::accept,
};

/// How long a listener without clients stays.
const LINGER: Duration = Duration::from_secs(5);

/// How many shims one listener serves; a further one finds its connection closed.
const CLIENTS_LIMIT: usize = 1024;

/// How long a new listener waits for one that is leaving.
const LEAVING_WITHIN: Duration = Duration::from_secs(2);

/// The socket of a node's listener.
pub(super) fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("connector.sock")
}

/// Is the node's listener: serves every shim on `connector.sock` in `runtime_dir`, and returns 5
/// seconds after the last has gone, or on `SIGTERM`, `SIGINT` or `SIGHUP`. Returns at once where
/// another one serves already: a lock on `connector.lock` says so.
///
/// For a process of its own, whose one thread this is: a signal that another thread can take ends
/// the process before it can tell the kernel. On every way out but `SIGKILL` the kernel is told
/// that nobody listens any more; after a `SIGKILL` it goes on making events of every process of the
/// node, for nobody, until it is booted again (see drivers/connector/cn_proc.c): costs a few
/// microseconds a process, and does no other harm.
///
/// # Errors
///
/// What the kernel refused: the proc connector
/// ([`probe_connector`](crate::observe::capability::probe_connector) says why before), the socket,
/// the lock.
pub fn serve(runtime_dir: &Path) -> io::Result<()> {
    serve_until_idle(runtime_dir, LINGER)
}

/// As [`serve`], for listeners that shall leave after another time without clients.
///
/// # Errors
///
/// As [`serve`].
pub fn serve_until_idle(runtime_dir: &Path, linger: Duration) -> io::Result<()> {
    serve_with(runtime_dir, linger, BUFFER)
}

/// As [`serve_until_idle`], with so many bytes for each client that does not read.
pub(super) fn serve_with(runtime_dir: &Path, linger: Duration, buffer: usize) -> io::Result<()> {
    let Some(_lock) = lock(runtime_dir)? else { return Ok(()) };
    // Blocked before the kernel is asked to listen: from there on no way out may be a sudden one.
    let signals = Signals::take()?;
    let mut listener = Listener::new(Connector::listen()?);
    let socket = Bound::new(&socket_path(runtime_dir))?;
    let mut idle_since = Instant::now();
    loop {
        if !listener.is_idle() {
            idle_since = Instant::now();
        }
        let timeout = if listener.has_pending() {
            Duration::ZERO
        } else if listener.is_idle() {
            linger.saturating_sub(idle_since.elapsed())
        } else if listener.owes() {
            Duration::from_millis(20)
        } else {
            Duration::MAX
        };
        if listener.is_idle() && timeout.is_zero() && !listener.has_pending() {
            return Ok(());
        }
        let clients: Vec<u64> = listener.clients().map(|(number, _)| number).collect();
        let ready = {
            let watched = [signals.0.as_fd(), socket.fd.as_fd(), listener.events()].into_iter();
            let watched = watched.chain(listener.clients().map(|(_, fd)| fd));
            let mut ready: Vec<_> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            // What is too long for the kernel's milliseconds is for ever.
            match poll(&mut ready, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            ready.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>()
        };
        if ready[0] {
            // Taken, so that it does not strike when the mask is as it was.
            let _ = signals.0.read_signal();
            return Ok(());
        }
        // The kernel's events first: what runs may be gone in a moment.
        if ready[2] || listener.has_pending() {
            listener.turn()?;
        } else {
            listener.flush_all();
        }
        for (number, _) in clients.iter().zip(&ready[3..]).filter(|(_, ready)| **ready) {
            listener.hear(*number);
        }
        if ready[1] {
            socket.accept(&mut listener, buffer);
        }
    }
}

/// The lock of the node's one listener. `None` if another process serves already.
fn lock(runtime_dir: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(runtime_dir.join("connector.lock"))?;
    let deadline = Instant::now() + LEAVING_WITHIN;
    let socket = socket_path(runtime_dir);
    // A process that holds the lock and does not serve has just started, or is about to leave.
    lock_unless(file, Duration::from_millis(5), || {
        open_socket(&socket).is_ok() || Instant::now() >= deadline
    })
}

/// Connects to a listener.
pub(super) fn open_socket(path: &Path) -> io::Result<OwnedFd> {
    let fd = new_socket()?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Keeps the order and the packets' bounds, and tells of the other end's end.
fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

/// The socket that shims connect to.
struct Bound {
    fd: OwnedFd,
    path: PathBuf,
}

impl Bound {
    fn new(path: &Path) -> io::Result<Self> {
        // Left by a listener that was killed: the lock proves that no other process serves it.
        unix_socket::remove(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = bind_private(path, SockType::SeqPacket, flags, Backlog::new(64)?)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    fn accept(&self, listener: &mut Listener, buffer: usize) {
        while let Ok(fd) = accept(&self.fd) {
            if listener.clients().count() < CLIENTS_LIMIT {
                listener.admit(Client::new(fd, buffer));
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Before the lock is given up, so it is ours. Those who wait to be accepted find it closed.
        let _ = fs::remove_file(&self.path);
    }
}

/// The signals that end the listener, as a descriptor.
struct Signals(SignalFd, SigSet);

impl Signals {
    fn take() -> io::Result<Self> {
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
