//! The kernel's proc connector: a netlink group that reports every fork, exec and exit of the
//! node.
//!
//! Formats: `struct nlmsghdr`, `struct cn_msg` (linux/connector.h), `struct proc_event` and `struct
//! proc_input` (linux/cn_proc.h), all in the machine's byte order.
//!
//! The kernel counts its listeners, and sends nothing while the count is 0. Only the message
//! `PROC_CN_MCAST_IGNORE` lowers the count (drivers/connector/cn_proc.c). A listener that ends
//! without it leaves the count too high until the next boot: the kernel then creates every process
//! event of the node and throws it away, and a socket that is only bound receives events. Therefore
//! [`Connector`] sends the message when it is dropped. And receiving an event does not prove that
//! listening was allowed: only the answer to the request does.

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

/// `CN_IDX_PROC` and `CN_VAL_PROC`, which are equal. The number of the netlink group is
/// `CN_IDX_PROC`.
const PROC_GROUP: u32 = 1;

// Values of `enum proc_cn_mcast_op`.
const MCAST_LISTEN: u32 = 1;
pub(super) const MCAST_IGNORE: u32 = 2;

// Values of `enum proc_cn_event`.
const EVENT_NONE: u32 = 0;
const EVENT_FORK: u32 = 1;
const EVENT_EXEC: u32 = 2;
const EVENT_EXIT: u32 = 0x8000_0000;

/// The offset of `proc_event` in bytes: after `nlmsghdr` (16) and `cn_msg` (20).
const EVENT_OFFSET: usize = 36;

/// The offset of the union in `proc_event`, in bytes: after `what`, `cpu` and `timestamp_ns`.
const EVENT_DATA_OFFSET: usize = EVENT_OFFSET + 16;

/// The size of the socket's receive buffer in bytes. An event takes 768 bytes, including the
/// kernel's bookkeeping. The buffer holds about 10 000 events, which is half a second of the
/// fastest storm of processes that two processors can make. The kernel drops further events, and
/// the next receive fails once with `ENOBUFS`.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// How long to wait for the kernel's answer to a request. The kernel answers during the call of
/// sendto(2), so the answer arrives at once or never.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// An event of a process. Pids are those of the initial pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A process was forked.
    Fork { parent: i32, child: i32 },
    /// A process made a thread.
    Thread { pid: i32 },
    /// A process runs a new image.
    Exec { pid: i32 },
    /// A thread ended. It is the thread group's leader if `thread == pid`. `status` is a wait
    /// status as wait(2) returns it.
    Exit { pid: i32, thread: i32, status: u32 },
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// An event, and its time (`CLOCK_MONOTONIC`, nanoseconds).
    Event { at_ns: u64, event: Event },
    /// The answer to a request: an errno, or 0 if the kernel accepts it. All sockets of the group
    /// receive the answers to all requests. `to` is the request's number plus 1.
    Answer { to: u32, errno: u32 },
}

/// A socket that receives the kernel's events. When the value is dropped, it asks the kernel to
/// stop.
#[derive(Debug)]
pub(super) struct Connector(Socket);

impl Connector {
    /// Asks the kernel to send events, and waits until it accepts.
    ///
    /// # Errors
    ///
    /// - `ECONNREFUSED` outside of the initial network namespace;
    /// - `EPERM` without `CAP_NET_ADMIN`;
    /// - `EPROTONOSUPPORT` if the kernel has no connector;
    /// - `ETIMEDOUT` outside of the initial pid and user namespaces, where the kernel ignores the
    ///   request.
    pub(super) fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_CONNECTOR)?;
        socket.set_non_blocking(true)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            // SO_RCVBUFFORCE needs CAP_NET_ADMIN. SO_RCVBUF is bounded by net.core.rmem_max.
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        }
        // Without the filter, events of threads and of changed credentials are received too. They
        // are ignored and only cost time, so an error does not matter.
        let _ = socket_filter::attach(&socket, &filter());
        socket.bind(&SocketAddr::new(0, PROC_GROUP))?;
        let connector = Self(socket);
        // The first request has no event mask: with a mask, the kernel filters its own answer away
        // (observed on 6.18, where an answer is an event of kind `PROC_EVENT_NONE`). A second
        // request from the same socket does not raise the count of listeners again.
        connector.send(&MCAST_LISTEN.to_ne_bytes(), request_number(MCAST_LISTEN))?;
        connector.await_answer(request_number(MCAST_LISTEN))?;
        // The second request has an event mask. Since Linux 6.6 the kernel then does not copy other
        // kinds of events to this socket. An older kernel ignores a request of this length, and the
        // socket filter drops those events.
        let mask = EVENT_FORK | EVENT_EXEC | EVENT_EXIT;
        connector.send(
            &[MCAST_LISTEN.to_ne_bytes(), mask.to_ne_bytes()].concat(),
            request_number(MCAST_LISTEN),
        )?;
        Ok(connector)
    }

    /// Receives the next message. `None` if no message waits.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` if the kernel has dropped events since the last call; other errors of recvfrom(2).
    pub(super) fn next(&self) -> io::Result<Option<Message>> {
        loop {
            let mut space = [0_u8; 512];
            let mut buffer = &mut space[..];
            match self.0.recv_from(&mut buffer, 0) {
                // Only the kernel has port 0. A message from another port was sent to the group by
                // a process, which could forge events.
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

    /// Waits for the answer to the request with this number, and ignores all other messages.
    fn await_answer(&self, request: u32) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.next() {
                Ok(Some(Message::Answer { to, errno })) if to == request.wrapping_add(1) => {
                    return match i32::try_from(errno) {
                        Ok(0) => Ok(()),
                        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
                        Err(_) => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                // Ignored: answers to other listeners, and events, which already arrive if there
                // are other listeners. A full buffer does not count as a loss, because no client
                // watches a target yet.
                Ok(Some(_)) => {}
                Err(error) if is_overrun(&error) => {}
                Err(error) => return Err(error),
                Ok(None) => {
                    let timeout = deadline.saturating_duration_since(Instant::now());
                    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
                    let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut ready, timeout) {
                        Ok(0) => return Err(Errno::ETIMEDOUT.into()),
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            // The deadline is also checked here, because on a busy node messages never stop, and
            // poll(2) is never reached.
            if Instant::now() >= deadline {
                return Err(Errno::ETIMEDOUT.into());
            }
        }
    }

    fn send(&self, payload: &[u8], request: u32) -> io::Result<()> {
        self.0.send_to(&encode(payload, request), &SocketAddr::new(0, 0), 0).map(drop)
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // If the kernel refused the request to listen, it refuses this one too, so the count of
        // listeners never becomes too low.
        let _ = self.send(&MCAST_IGNORE.to_ne_bytes(), request_number(MCAST_IGNORE));
    }
}

/// Whether the error means that the kernel has dropped events.
pub(super) fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

/// The number of this process's request for an operation. The number distinguishes the answer from
/// the answers to other listeners.
pub(super) fn request_number(operation: u32) -> u32 {
    std::process::id() ^ 0x5f3a_0000 ^ (operation << 24)
}

/// A request as the kernel expects it: `nlmsghdr`, `cn_msg` and the payload.
fn encode(payload: &[u8], request: u32) -> Vec<u8> {
    const NLMSG_DONE: u16 = 3;
    let length = u16::try_from(payload.len()).expect("a request is 4 or 8 bytes");
    let mut message = Vec::with_capacity(EVENT_OFFSET + payload.len());
    message.extend((36 + u32::from(length)).to_ne_bytes());
    message.extend(NLMSG_DONE.to_ne_bytes());
    // Flags, sequence number and port: the kernel reads none of them.
    message.extend([0; 2 + 4 + 4]);
    message.extend(PROC_GROUP.to_ne_bytes());
    message.extend(PROC_GROUP.to_ne_bytes());
    // `seq`, which is not used, and `ack`: the answer has the value of `ack` plus 1.
    message.extend([0; 4]);
    message.extend(request.to_ne_bytes());
    message.extend(length.to_ne_bytes());
    message.extend([0; 2]);
    message.extend_from_slice(payload);
    message
}

/// Parses one message. `None` for other kinds of events, and for a message that is too short.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let pid = |at: usize| Some(word(at)?.cast_signed());
    if word(16)? != PROC_GROUP || word(20)? != PROC_GROUP {
        return None;
    }
    let at_ns =
        u64::from_ne_bytes(bytes.get(EVENT_OFFSET + 8..EVENT_DATA_OFFSET)?.try_into().ok()?);
    let event = match word(EVENT_OFFSET)? {
        EVENT_NONE => {
            return Some(Message::Answer { to: word(28)?, errno: word(EVENT_DATA_OFFSET)? });
        }
        EVENT_FORK => {
            let (parent, thread, child) = (
                pid(EVENT_DATA_OFFSET + 4)?,
                pid(EVENT_DATA_OFFSET + 8)?,
                pid(EVENT_DATA_OFFSET + 12)?,
            );
            match thread == child {
                true => Event::Fork { parent, child },
                false => Event::Thread { pid: child },
            }
        }
        EVENT_EXEC => Event::Exec { pid: pid(EVENT_DATA_OFFSET + 4)? },
        EVENT_EXIT => Event::Exit {
            pid: pid(EVENT_DATA_OFFSET + 4)?,
            thread: pid(EVENT_DATA_OFFSET)?,
            status: word(EVENT_DATA_OFFSET + 8)?,
        },
        _ => return None,
    };
    Some(Message::Event { at_ns, event })
}

/// The classic BPF program that keeps messages which [`parse`] would ignore out of the receive
/// buffer. It accepts the forks and exits of threads, because the last thread to end decides the
/// status of the process.
fn filter() -> [Instruction; 7] {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    // A load converts from network byte order, but the events are in the machine's byte order.
    let kind = |what: u32| u32::from_be_bytes(what.to_ne_bytes());
    let offset = |at: usize| u32::try_from(at).expect("all offsets are below 100");
    // The second and third number of an instruction are the jump distances if equal, and if not
    // equal.
    [
        (LOAD_WORD, 0, 0, offset(EVENT_OFFSET)),
        (EQUALS, 4, 0, kind(EVENT_FORK)),
        (EQUALS, 3, 0, kind(EVENT_EXEC)),
        (EQUALS, 2, 0, kind(EVENT_EXIT)),
        (EQUALS, 1, 0, kind(EVENT_NONE)),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, u32::MAX),
    ]
}

#[cfg(test)]
mod tests;
