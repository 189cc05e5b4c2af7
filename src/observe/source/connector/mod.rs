//! The source that gets its records from the node's one listener on the kernel's proc connector.
//!
//! It is used where the kernel refuses the eBPF programs. The kernel reports every fork, exec and
//! exit of the node, without arguments and without cgroups. The listener reads the arguments and
//! cgroups from `/proc` right after each exec, while the process may already end: of a process that
//! lives for less than some 100 µs, the records have the pid and the exit status, but often no
//! image. The grade of each record marks these cases. Every further socket on the proc connector
//! slows down every fork of the node, so there is one listener per node, a helper process of its
//! own ([`serve`]), which serves all shims.
//!
//! The source does not see:
//!
//! - a process that enters the cgroup without a fork or an exec in it, until its next exec;
//! - the fork of a process that is cloned into the cgroup (`CLONE_INTO_CGROUP`) or that gets
//!   another parent (`CLONE_PARENT`);
//! - a process that enters the cgroup in one of these ways and ends before its cgroup can be read.
//!
//! If a process execs again while `/proc` is read for its previous exec (a window about as long as
//! an exec), the record of the previous exec can have the image of the newer one.

mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod listener;
mod members;
mod netlink;
mod reading;
mod serve;
mod wire;

use std::{
    collections::{HashSet, VecDeque},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{MsgFlags, recv, send},
    },
};

pub use self::serve::{serve, serve_until_idle};
use self::wire::{Answer, PACKET_LIMIT, PROTOCOL_VERSION, Request, decode, encode, frames};
use super::{KernelCounts, Source, SourceError, Target};
use crate::{
    model::Backend,
    observe::record::{Record, TargetId},
    platform::Waker,
};

/// How long [`ConnectorSource::connect`] waits for a listener that accepts the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the listener may take to answer a request. It scans all processes of a target before it
/// answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long after a start of the helper another one is started, if no listener answers yet. The
/// first helper may have exited because an older listener, which was about to exit, still had the
/// lock.
const RESPAWN_INTERVAL: Duration = Duration::from_millis(500);

/// The listener's name in errors.
const LISTENER_NAME: &str = "the node's process listener";

/// The connection to the node's listener.
#[derive(Debug)]
pub struct ConnectorSource {
    socket: OwnedFd,
    /// An epoll on `socket` and `pending_waker`. Its descriptor is the one that this source
    /// returns.
    ready: Epoll,
    /// Readable while `pending` has records, because the socket may not be readable then.
    pending_waker: Waker,
    watched: HashSet<TargetId>,
    /// Records that arrived while an answer was awaited. They are bounded by what the listener
    /// sends within [`ANSWER_TIMEOUT`].
    pending: VecDeque<Record>,
    packet: Vec<u8>,
    /// Whether the connection has ended. It is never opened again: the caller then uses another
    /// source.
    disconnected: bool,
}

impl ConnectorSource {
    /// Connects to the listener of `runtime_dir`. If no listener answers, starts one:
    /// `spawn_helper` starts a process that calls [`serve`], and returns without waiting for it. It
    /// may be called more than once; a surplus listener exits. Waits 5 seconds at most.
    ///
    /// # Errors
    ///
    /// - [`SourceError::Kernel`] with the error of `spawn_helper`;
    /// - [`SourceError::Gone`] if no listener accepts the connection in time, for example because
    ///   the kernel refuses the proc connector to the helper;
    /// - [`SourceError::Missing`] if the running listener has another protocol version.
    pub fn connect(
        runtime_dir: &Path,
        spawn_helper: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Self, SourceError> {
        let path = serve::socket_path(runtime_dir);
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut spawn_at = Instant::now();
        loop {
            if let Ok(socket) = serve::open_socket(&path) {
                let mut source =
                    Self::from_socket(socket).map_err(|source| SourceError::Kernel {
                        action: "set up the connection to the process listener",
                        source,
                    })?;
                match source.handshake() {
                    Ok(PROTOCOL_VERSION) => return Ok(source),
                    Ok(_) => {
                        return Err(SourceError::Missing {
                            what: "a process listener of this version",
                        });
                    }
                    // The listener was about to exit, and closed the connection. The next listener
                    // gets the lock as soon as this listener has exited.
                    Err(_) => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(SourceError::Gone { what: LISTENER_NAME });
            }
            if Instant::now() >= spawn_at {
                spawn_helper().map_err(|source| SourceError::Kernel {
                    action: "start the node's process listener",
                    source,
                })?;
                spawn_at = Instant::now() + RESPAWN_INTERVAL;
            }
            // Before the socket exists there is no descriptor to wait on.
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let pending_waker = Waker::new()?;
        ready.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        ready.add(&pending_waker, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        Ok(Self {
            socket,
            ready,
            pending_waker,
            watched: HashSet::new(),
            pending: VecDeque::new(),
            packet: vec![0; PACKET_LIMIT],
            disconnected: false,
        })
    }

    /// Sends the version of the protocol, and returns that of the listener.
    fn handshake(&mut self) -> Result<u32, SourceError> {
        self.request(&Request::Hello { version: PROTOCOL_VERSION })?;
        self.await_answer(|answer| match answer {
            Answer::Ready { version } => Some(*version),
            _ => None,
        })
    }

    /// Sends a request to the listener.
    fn request(&mut self, request: &Request) -> Result<(), SourceError> {
        if self.disconnected {
            return Err(SourceError::Gone { what: LISTENER_NAME });
        }
        let frame = encode(request).ok_or_else(|| SourceError::Kernel {
            action: "send a request to the process listener",
            source: Errno::EMSGSIZE.into(),
        })?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match send(
                self.socket.as_raw_fd(),
                &frame,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                // The socket is full: the listener has not read the earlier requests yet.
                Err(Errno::EAGAIN) => self.wait_for(PollFlags::POLLOUT, deadline)?,
                Err(_) => {
                    self.disconnected = true;
                    return Err(SourceError::Gone { what: LISTENER_NAME });
                }
            }
        }
    }

    /// Reads until `select` accepts an answer. Records that arrive before it go to `pending`.
    fn await_answer<T>(&mut self, select: impl Fn(&Answer) -> Option<T>) -> Result<T, SourceError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let mut found = None;
            let received =
                self.receive(&mut |answer| found = found.take().or_else(|| select(answer)))?;
            if let Some(found) = found {
                if !self.pending.is_empty() {
                    // The socket may be empty now, so poll(2) on it would not find these records.
                    self.pending_waker.wake();
                }
                return Ok(found);
            }
            if !received {
                self.wait_for(PollFlags::POLLIN, deadline)?;
            }
        }
    }

    /// Receives one packet, without waiting. Its records go to `pending`, its other answers to
    /// `on_answer`. Returns `false` if no packet was available.
    fn receive(&mut self, on_answer: &mut dyn FnMut(&Answer)) -> Result<bool, SourceError> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.packet, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                // A length of 0 is the end of the connection: no packet is empty.
                Err(_) | Ok(0) => {
                    self.disconnected = true;
                    return Err(SourceError::Gone { what: LISTENER_NAME });
                }
                Ok(length) => {
                    for frame in frames(&self.packet[..length]) {
                        match decode(frame) {
                            Some(Answer::Record(record)) => {
                                if is_watched(&record, &self.watched) {
                                    self.pending.push_back(record);
                                }
                            }
                            Some(answer) => on_answer(&answer),
                            // After the handshake the listener cannot have another version, so the
                            // frame is malformed. It is reported as a wrong version too, because
                            // the connection cannot be used in either case.
                            None => {
                                self.disconnected = true;
                                return Err(SourceError::Missing {
                                    what: "a process listener of this version",
                                });
                            }
                        }
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// Waits until the socket is ready for `flags`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Gone`] at `deadline`: a connection to a listener that does not answer in time
    /// is abandoned, so that the caller can use another source.
    fn wait_for(&mut self, flags: PollFlags, deadline: Instant) -> Result<(), SourceError> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(self.socket.as_fd(), flags)];
        match poll(&mut ready, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => {
                self.disconnected = true;
                Err(SourceError::Gone { what: LISTENER_NAME })
            }
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(SourceError::Kernel {
                action: "wait for the process listener",
                source: error.into(),
            }),
        }
    }
}

/// Whether the target of a record is still watched. The listener may have sent records before it
/// received the request to end the watch; those are dropped.
fn is_watched(record: &Record, watched: &HashSet<TargetId>) -> bool {
    match record {
        Record::Process { target, .. }
        | Record::Scan { target, .. }
        | Record::Listen { target, .. }
        | Record::Unlisten { target, .. }
        | Record::Connected { target, .. } => watched.contains(target),
        Record::Lost { target, .. } => target.is_none_or(|target| watched.contains(&target)),
    }
}

impl Source for ConnectorSource {
    fn backend(&self) -> Backend {
        Backend::Connector
    }

    /// Waits 2 seconds at most for the listener's answer. The first records of the target are those
    /// of a scan; later events follow them.
    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError> {
        // Inserted before the request: the records of the scan arrive before the answer.
        self.watched.insert(id);
        let answer = self.request(&Request::Watch { id, target: target.clone() }).and_then(|()| {
            self.await_answer(|answer| match *answer {
                Answer::Watched { id: answered } if answered == id => Some(Ok(())),
                Answer::Refused { id: answered, errno } if answered == id => Some(Err(errno)),
                _ => None,
            })
        });
        let error = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(errno)) => {
                let target = match target {
                    Target::Cgroup { path, .. } => path.display().to_string(),
                    Target::Tree { pid } => format!("process {pid}"),
                };
                SourceError::Target { target, source: io::Error::from_raw_os_error(errno) }
            }
            Err(error) => error,
        };
        self.watched.remove(&id);
        Err(error)
    }

    fn unwatch(&mut self, id: TargetId) {
        if self.watched.remove(&id) {
            let watched = &self.watched;
            self.pending.retain(|record| is_watched(record, watched));
            // If the listener has ended, it watches nothing any more, and the next `read` returns
            // `Gone`.
            let _ = self.request(&Request::Unwatch { id });
        }
    }

    /// Always `None`: the kernel does not count the events of the proc connector per target.
    fn counts(&self, _id: TargetId) -> Option<KernelCounts> {
        None
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ready.0.as_fd())
    }

    /// Zero, because the listener already collects: it sends the records of one batch of events
    /// together.
    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        let mut delivered = 0;
        // Cleared even if `limit` leaves records pending: the returned `true` makes the caller read
        // again.
        self.pending_waker.clear();
        loop {
            while delivered < limit {
                let Some(record) = self.pending.pop_front() else { break };
                sink(record);
                delivered += 1;
            }
            if delivered >= limit {
                return Ok(true);
            }
            // Checked after the pending records, so that those received before the end of the
            // connection are still delivered.
            if self.disconnected {
                return Err(SourceError::Gone { what: LISTENER_NAME });
            }
            if !self.receive(&mut |_| {})? && self.pending.is_empty() {
                return Ok(false);
            }
        }
    }
}

/// Checks whether the kernel allows this process to listen: sends the request, waits for the
/// kernel's answer, and stops listening. That events arrive would not prove that this process may
/// listen: see `netlink`.
pub(in crate::observe) fn probe() -> io::Result<()> {
    netlink::Connector::listen().map(drop)
}

#[cfg(test)]
pub(in crate::observe) mod tests;
