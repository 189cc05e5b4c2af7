//! The source that asks the node's one listener on the kernel's proc connector.
//!
//! For where eBPF is refused. The kernel tells every fork, exec and exit, without arguments and
//! without cgroups; the listener reads those from `/proc` right after each exec, in a race with the
//! process: one that lives for less than some 100 µs is told with its pid and its status, and
//! without what it ran. Each record says which it is. A socket a shim would slow down every fork of
//! the node for each other shim, so there is one listener a node, a process of its own ([`serve`]).
//!
//! What it cannot see: a process that comes into the cgroup without being born or exec'd in it,
//! until it execs; the fork of one that is cloned into the cgroup (`CLONE_INTO_CGROUP`) or given
//! another parent (`CLONE_PARENT`); who is gone before it could be asked for its cgroup. And an
//! exec that happens just while `/proc` is read for the one before (a window of about the time of
//! an exec) can show the newer one's image under the older.

mod client;
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
use self::wire::{Answer, PACKET_LIMIT, Request, VERSION, frames};
use super::{KernelCounts, Source, SourceError, Target};
use crate::{
    model::Backend,
    observe::record::{Record, TargetId},
    platform::Waker,
};

/// How long a listener may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How long it may take to answer a request; it looks at every process of a target for that.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long until a helper is started again that is not there yet: the one before may have met the
/// end of an older one.
const START_AGAIN: Duration = Duration::from_millis(500);

const LISTENER: &str = "the node's process listener";

/// The connection to the node's listener.
#[derive(Debug)]
pub struct ConnectorSource {
    socket: OwnedFd,
    /// The socket and the flag below: what this source is readable by.
    ready: Epoll,
    /// Raised while records are pending that the socket does not tell of.
    kept: Waker,
    watched: HashSet<TargetId>,
    /// Came while something else was waited for; at most what [`ANSWER_WITHIN`] brings.
    pending: VecDeque<Record>,
    packet: Vec<u8>,
    gone: bool,
}

impl ConnectorSource {
    /// Connects to the listener of `runtime_dir`, and has it started where there is none:
    /// `spawn_helper` starts a process that calls [`serve`] and returns at once; it may be called
    /// more than once, a listener too many leaves by itself. Waits 5 seconds at most.
    ///
    /// # Errors
    ///
    /// [`SourceError::Kernel`] with what `spawn_helper` answered; [`SourceError::Gone`] where no
    /// listener comes: the kernel refuses it; [`SourceError::Missing`] where one of another version
    /// serves.
    pub fn connect(
        runtime_dir: &Path,
        spawn_helper: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Self, SourceError> {
        let path = serve::socket_path(runtime_dir);
        let deadline = Instant::now() + READY_WITHIN;
        let mut start_at = Instant::now();
        loop {
            if let Ok(socket) = serve::open_socket(&path) {
                let mut source = Self::on(socket).map_err(|source| SourceError::Kernel {
                    action: "make room for records",
                    source,
                })?;
                match source.greet() {
                    Ok(VERSION) => return Ok(source),
                    Ok(_) => {
                        return Err(SourceError::Missing {
                            what: "a process listener of this version",
                        });
                    }
                    // It was leaving.
                    Err(_) => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(SourceError::Gone { what: LISTENER });
            }
            if Instant::now() >= start_at {
                spawn_helper().map_err(|source| SourceError::Kernel {
                    action: "start the node's process listener",
                    source,
                })?;
                start_at = Instant::now() + START_AGAIN;
            }
            // There is nothing to wait on before the socket exists.
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn on(socket: OwnedFd) -> io::Result<Self> {
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let kept = Waker::new()?;
        ready.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        ready.add(&kept, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        Ok(Self {
            socket,
            ready,
            kept,
            watched: HashSet::new(),
            pending: VecDeque::new(),
            packet: vec![0; PACKET_LIMIT],
            gone: false,
        })
    }

    fn greet(&mut self) -> Result<u32, SourceError> {
        self.request(&Request::Hello { version: VERSION })?;
        self.await_answer(|answer| match answer {
            Answer::Ready { version } => Some(*version),
            _ => None,
        })
    }

    fn request(&mut self, request: &Request) -> Result<(), SourceError> {
        if self.gone {
            return Err(SourceError::Gone { what: LISTENER });
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            match send(
                self.socket.as_raw_fd(),
                &request.encode(),
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait_for(PollFlags::POLLOUT, deadline)?,
                Err(_) => {
                    self.gone = true;
                    return Err(SourceError::Gone { what: LISTENER });
                }
            }
        }
    }

    /// Reads until an answer is the wanted one. Records that come before it are kept.
    fn await_answer<T>(&mut self, wanted: impl Fn(&Answer) -> Option<T>) -> Result<T, SourceError> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let mut found = None;
            let more =
                self.receive(&mut |answer| found = found.take().or_else(|| wanted(answer)))?;
            if let Some(found) = found {
                if !self.pending.is_empty() {
                    // Only a counter near its end would refuse.
                    self.kept.wake();
                }
                return Ok(found);
            }
            if !more {
                self.wait_for(PollFlags::POLLIN, deadline)?;
            }
        }
    }

    /// One packet, if one is there: its records are kept, its other answers given to `hear`.
    fn receive(&mut self, hear: &mut dyn FnMut(&Answer)) -> Result<bool, SourceError> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.packet, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(_) | Ok(0) => {
                    self.gone = true;
                    return Err(SourceError::Gone { what: LISTENER });
                }
                Ok(length) => {
                    for frame in frames(&self.packet[..length]) {
                        match Answer::decode(frame) {
                            Some(Answer::Record(record)) => {
                                if belongs(&record, &self.watched) {
                                    self.pending.push_back(record);
                                }
                            }
                            Some(answer) => hear(&answer),
                            None => {
                                self.gone = true;
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

    /// # Errors
    ///
    /// The listener counts as gone where it does not come up to it in time.
    fn wait_for(&mut self, flags: PollFlags, deadline: Instant) -> Result<(), SourceError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(self.socket.as_fd(), flags)];
        match poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => {
                self.gone = true;
                Err(SourceError::Gone { what: LISTENER })
            }
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(SourceError::Kernel {
                action: "wait for the process listener",
                source: error.into(),
            }),
        }
    }
}

/// What was on its way when its target was let go is nobody's.
fn belongs(record: &Record, watched: &HashSet<TargetId>) -> bool {
    match record {
        Record::Process { target, .. }
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

    /// Waits 2 seconds at most for the listener's answer. The records of a look at who is alive
    /// come first, before what happens then.
    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError> {
        self.watched.insert(id);
        let watched = self.request(&Request::Watch { id, target: target.clone() }).and_then(|()| {
            self.await_answer(|answer| match *answer {
                Answer::Watched { id: of } if of == id => Some(Ok(())),
                Answer::Refused { id: of, errno } if of == id => Some(Err(errno)),
                _ => None,
            })
        });
        let refused = match watched {
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
        Err(refused)
    }

    fn unwatch(&mut self, id: TargetId) {
        if self.watched.remove(&id) {
            let watched = &self.watched;
            self.pending.retain(|record| belongs(record, watched));
            // A listener that has gone watches nobody; `read` tells of that.
            let _ = self.request(&Request::Unwatch { id });
        }
    }

    /// The kernel counts nothing here.
    fn counts(&self, _id: TargetId) -> Option<KernelCounts> {
        None
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ready.0.as_fd())
    }

    /// Nothing is left to collect: the listener sends what it has read in one turn as one packet.
    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        let mut given = 0;
        // Lowered; what stays pending for want of `limit` is told by the answer.
        self.kept.clear();
        loop {
            while given < limit {
                let Some(record) = self.pending.pop_front() else { break };
                sink(record);
                given += 1;
            }
            if given >= limit {
                return Ok(true);
            }
            if self.gone {
                return Err(SourceError::Gone { what: LISTENER });
            }
            if !self.receive(&mut |_| {})? && self.pending.is_empty() {
                return Ok(false);
            }
        }
    }
}

/// Whether the kernel lets this process listen: asks it, with the request and its answer, and stops
/// again. Getting events would prove nothing: see `netlink`.
pub(in crate::observe) fn probe() -> io::Result<()> {
    netlink::Connector::listen().map(drop)
}

#[cfg(test)]
pub(in crate::observe) mod tests;
