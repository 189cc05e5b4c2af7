//! The listener's side of its connection to one shim: requests, packets of records, and losses.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, send, setsockopt, sockopt},
};

use super::wire::{Answer, PACKET_LIMIT, Request, decode, encode, frames};
use crate::{clock::monotonic_ns, model::Stage, observe::record::Record};

/// How many bytes the socket holds for a shim that does not read. Further records for this shim are
/// dropped, counted, and reported to it as a loss. Other shims lose nothing.
pub(super) const SEND_BUFFER: usize = 2 << 20;

/// The length in bytes at which a packet is sent before the listener's batch of events ends. Half
/// of the limit, so that the next frame usually fits into the packet.
const FLUSH_AT_BYTES: usize = PACKET_LIMIT / 2;

/// The connection to a shim.
#[derive(Debug)]
pub(super) struct Client {
    fd: OwnedFd,
    /// The frames of the next packet.
    out: Vec<u8>,
    /// The number of records in `out`.
    records: u64,
    /// The number of records that were dropped, and are not yet reported as lost.
    dropped: u64,
}

impl Client {
    pub(super) fn new(fd: OwnedFd, buffer: usize) -> Self {
        // SO_SNDBUFFORCE needs CAP_NET_ADMIN. SO_SNDBUF is bounded by net.core.wmem_max; a smaller
        // buffer only means that records are dropped earlier, so no error is reported.
        if setsockopt(&fd, sockopt::SndBufForce, &buffer).is_err() {
            let _ = setsockopt(&fd, sockopt::SndBuf, &buffer);
        }
        Self { fd, out: Vec::new(), records: 0, dropped: 0 }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The requests that have arrived. `None` if the shim has closed the connection, or has sent
    /// bytes that are no request.
    pub(super) fn requests(&mut self) -> Option<Vec<Request>> {
        let mut requests = Vec::new();
        let mut packet = vec![0; PACKET_LIMIT];
        // Bounded, so that a client that sends without pause does not block the others.
        for _ in 0..64 {
            match recv(self.fd.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return None,
                Ok(length) => {
                    for frame in frames(&packet[..length]) {
                        requests.push(decode(frame)?);
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
        Some(requests)
    }

    /// Adds an answer to the next packet. Sends the packet if it is long enough.
    pub(super) fn push_answer(&mut self, answer: &Answer) {
        let Some(frame) = encode(answer) else {
            // The frame is longer than a packet, so the record is lost. The earlier records are
            // sent before the loss is counted.
            self.flush();
            self.dropped += 1;
            return;
        };
        if self.out.len() + frame.len() > PACKET_LIMIT {
            self.flush();
        }
        self.records += u64::from(matches!(answer, Answer::Record(_)));
        self.out.extend(frame);
        if self.out.len() >= FLUSH_AT_BYTES {
            self.flush();
        }
    }

    /// Sends the packet, or drops and counts its records if the socket has no free space.
    pub(super) fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        // While a loss is not reported, later records are dropped too: the shim must receive the
        // report of the loss before any record that follows the loss. Other errors mean that the
        // shim has ended: no loss has to be counted, and poll(2) reports the end of the connection.
        if self.dropped > 0
            || matches!(self.send(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            self.dropped += self.records;
        }
        self.out.clear();
        self.records = 0;
    }

    /// Sends the report of a loss, if records were lost and the socket has free space again.
    /// Returns whether the report was sent.
    pub(super) fn report_loss(&mut self) -> bool {
        if self.dropped == 0 {
            return false;
        }
        let lost = Record::Lost {
            target: None,
            at_ns: monotonic_ns(),
            count: Some(self.dropped),
            stage: Stage::Kernel,
        };
        let Some(frame) = encode(&Answer::Record(lost)) else { return false };
        // `out` is empty: `flush` has run before.
        self.out = frame;
        let sent = self.send().is_ok();
        self.out.clear();
        if sent {
            self.dropped = 0;
        }
        sent
    }

    /// Whether records were lost and the loss is not yet reported.
    pub(super) fn has_unreported_loss(&self) -> bool {
        self.dropped > 0
    }

    fn send(&self) -> io::Result<()> {
        send(self.fd.as_raw_fd(), &self.out, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }
}
