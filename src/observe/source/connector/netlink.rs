//! The kernel's proc connector: a netlink group that tells of every fork, exec and exit of the
//! node.
//!
//! Formats: `struct nlmsghdr`, `struct cn_msg` (linux/connector.h), `struct proc_event` and `struct
//! proc_input` (linux/cn_proc.h), all in the machine's byte order.
//!
//! The kernel counts its listeners and sends nothing while there is none. A listener that dies
//! without `PROC_CN_MCAST_IGNORE` leaves the count up for the rest of the boot
//! (drivers/connector/cn_proc.c lowers it for that message only): every process event of the node
//! then is made and thrown away, and a socket that only binds gets events. So [`Connector`] sends
//! it on every way out that runs destructors, and nothing here takes an event for a proof that
//! listening was allowed: the answer to the request is.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_CONNECTOR};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use crate::sys::socket_filter::{self, Instruction};

/// `CN_IDX_PROC` and `CN_VAL_PROC`; the group has the number of the index.
const PROC: u32 = 1;

const LISTEN: u32 = 1;
pub(super) const IGNORE: u32 = 2;

const NONE: u32 = 0;
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;

/// Where `proc_event` begins: after `nlmsghdr` (16) and `cn_msg` (20).
const EVENT: usize = 36;

/// Where its union begins: after `what`, `cpu` and `timestamp_ns`.
const DATA: usize = EVENT + 16;

/// How many bytes of events wait in the kernel. An event takes 768 with its bookkeeping: about 10
/// 000 of them, which is half a second of the fastest storm that two processors can make. Beyond
/// that the kernel drops, and says so once (`ENOBUFS`).
const BUFFER: usize = 8 << 20;

/// How long the kernel may take to answer a request. It answers within the call.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What the kernel told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A process was made. Threads are not told.
    Fork { parent: i32, child: i32 },
    /// A process runs something else.
    Exec { pid: i32 },
    /// A thread ended; it is the leader where `thread == pid`. The status is as wait(2) has it.
    Exit { pid: i32, thread: i32, status: u32 },
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// An event, with its moment of `CLOCK_MONOTONIC` in nanoseconds.
    Event { at_ns: u64, event: Event },
    /// The kernel answered a request: the errno, 0 for consent. Everybody in the group gets the
    /// answers to everybody's requests; `to` is the number of the request, and one.
    Answer { to: u32, errno: u32 },
}

/// A socket that listens. Dropping it tells the kernel that it does no more.
#[derive(Debug)]
pub(super) struct Connector(Socket);

impl Connector {
    /// Listens, after asking whether it may.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` in another network namespace than the initial one, `EPERM` without
    /// `CAP_NET_ADMIN`, `EPROTONOSUPPORT` in a kernel without it, `ETIMEDOUT` where the kernel
    /// ignores the request: outside the initial pid and user namespace.
    pub(super) fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_CONNECTOR)?;
        socket.set_non_blocking(true)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            // Without CAP_NET_ADMIN; bounded by net.core.rmem_max then.
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
        }
        // Refused: threads and ownership changes come too, and cost time only.
        let _ = socket_filter::attach(&socket, &filter());
        socket.bind(&SocketAddr::new(0, PROC))?;
        let connector = Self(socket);
        // The plain request first: with an event mask the kernel filters its own answer away (seen
        // on 6.18, where an answer is an event of no kind). A second one from the same socket does
        // not count a second time.
        connector.send(&LISTEN.to_ne_bytes(), mark(LISTEN))?;
        connector.await_answer(mark(LISTEN))?;
        // Linux 6.6: the kernel makes no copy of other kinds of events for us. An older one ignores
        // a request of this length, and the filter does it.
        let mask = FORK | EXEC | EXIT;
        connector.send(&[LISTEN.to_ne_bytes(), mask.to_ne_bytes()].concat(), mark(LISTEN))?;
        Ok(connector)
    }

    /// The next message; `None` when none waits.
    ///
    /// # Errors
    ///
    /// `ENOBUFS`: the kernel dropped events since the last call.
    pub(super) fn next(&self) -> io::Result<Option<Message>> {
        loop {
            let mut space = [0_u8; 512];
            let mut buffer = &mut space[..];
            match self.0.recv_from(&mut buffer, 0) {
                // Only the kernel has port 0: what a process sends to the group is not believed.
                Ok((length, from)) if from.port_number() == 0 => {
                    if let Some(message) = parse(&space[..length.min(space.len())]) {
                        return Ok(Some(message));
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn await_answer(&self, request: u32) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            match self.next() {
                Ok(Some(Message::Answer { to, errno })) if to == request.wrapping_add(1) => {
                    return match i32::try_from(errno) {
                        Ok(0) => Ok(()),
                        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
                        Err(_) => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                // Other listeners' answers, events that the count of others lets through; a full
                // buffer is nobody's loss yet.
                Ok(Some(_)) => {}
                Err(error) if is_overrun(&error) => {}
                Err(error) => return Err(error),
                Ok(None) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                    let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut ready, left) {
                        Ok(0) => return Err(Errno::ETIMEDOUT.into()),
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(Errno::ETIMEDOUT.into());
            }
        }
    }

    fn send(&self, payload: &[u8], request: u32) -> io::Result<()> {
        self.0.send_to(&message(payload, request), &SocketAddr::new(0, 0), 0).map(drop)
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // After a refusal this is refused too, so the count never falls below the truth.
        let _ = self.send(&IGNORE.to_ne_bytes(), mark(IGNORE));
    }
}

/// Whether the kernel says that it dropped something.
pub(super) fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

/// What this process's requests of one kind carry, which tells their answers from others'.
pub(super) fn mark(operation: u32) -> u32 {
    std::process::id() ^ 0x5f3a_0000 ^ (operation << 24)
}

/// A request.
fn message(payload: &[u8], request: u32) -> Vec<u8> {
    const NLMSG_DONE: u16 = 3;
    let length = u16::try_from(payload.len()).expect("a request is 4 or 8 bytes");
    let mut message = Vec::with_capacity(EVENT + payload.len());
    message.extend((36 + u32::from(length)).to_ne_bytes());
    message.extend(NLMSG_DONE.to_ne_bytes());
    // Flags, sequence and port: the kernel asks for none of them.
    message.extend([0; 2 + 4 + 4]);
    message.extend(PROC.to_ne_bytes());
    message.extend(PROC.to_ne_bytes());
    // Sequence; then what comes back, plus one, in the answer.
    message.extend([0; 4]);
    message.extend(request.to_ne_bytes());
    message.extend(length.to_ne_bytes());
    message.extend([0; 2]);
    message.extend_from_slice(payload);
    message
}

/// Parses one message; `None` for what is of no interest: threads that begin, other kinds of
/// events.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let pid = |at: usize| Some(word(at)?.cast_signed());
    if word(16)? != PROC || word(20)? != PROC {
        return None;
    }
    let at_ns = u64::from_ne_bytes(bytes.get(EVENT + 8..DATA)?.try_into().ok()?);
    let event = match word(EVENT)? {
        NONE => return Some(Message::Answer { to: word(28)?, errno: word(DATA)? }),
        FORK => {
            let (parent, thread, child) = (pid(DATA + 4)?, pid(DATA + 8)?, pid(DATA + 12)?);
            (thread == child).then_some(Event::Fork { parent, child })?
        }
        EXEC => Event::Exec { pid: pid(DATA + 4)? },
        EXIT => Event::Exit { pid: pid(DATA + 4)?, thread: pid(DATA)?, status: word(DATA + 8)? },
        _ => return None,
    };
    Some(Message::Event { at_ns, event })
}

/// Keeps out of the buffer what [`parse`] would throw away, but for the exits of threads: the last
/// thread's is the one that ends a process whose leader went before.
fn filter() -> [Instruction; 12] {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const EQUALS_X: u16 = 0x1d; // BPF_JMP | BPF_JEQ | BPF_X
    const TO_X: u16 = 0x07; // BPF_MISC | BPF_TAX
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    // A load gives the bytes as a number in network order.
    let kind = |what: u32| u32::from_be_bytes(what.to_ne_bytes());
    let offset = |at: usize| u32::try_from(at).expect("small numbers");
    [
        (LOAD, 0, 0, offset(EVENT)),
        (EQUALS, 4, 0, kind(FORK)),
        (EQUALS, 7, 0, kind(EXEC)),
        (EQUALS, 6, 0, kind(EXIT)),
        (EQUALS, 5, 0, kind(NONE)),
        (RETURN, 0, 0, 0),
        (LOAD, 0, 0, offset(DATA + 8)),
        (TO_X, 0, 0, 0),
        (LOAD, 0, 0, offset(DATA + 12)),
        (EQUALS_X, 0, 1, 0),
        (RETURN, 0, 0, u32::MAX),
        (RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests;
