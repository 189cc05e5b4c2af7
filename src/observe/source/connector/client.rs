//! One shim, as the listener sees it.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, send, setsockopt, sockopt},
};

use super::wire::{Answer, PACKET_LIMIT, Request, frames};
use crate::{clock::monotonic_ns, model::Stage, observe::record::Record};

/// How many bytes wait for a shim that does not read. Beyond that its records are dropped, counted,
/// and told to it as a loss: its own, nobody else's.
pub(super) const BUFFER: usize = 2 << 20;

/// When a packet is sent before the turn ends.
const PACKET: usize = PACKET_LIMIT / 2;

/// The connection to a shim.
#[derive(Debug)]
pub(super) struct Client {
    fd: OwnedFd,
    /// Frames of the next packet.
    out: Vec<u8>,
    /// How many records are among them.
    records: u64,
    /// How many were dropped and are not told yet.
    dropped: u64,
}

impl Client {
    pub(super) fn new(fd: OwnedFd, buffer: usize) -> Self {
        if setsockopt(&fd, sockopt::SndBufForce, &buffer).is_err() {
            let _ = setsockopt(&fd, sockopt::SndBuf, &buffer);
        }
        Self { fd, out: Vec::new(), records: 0, dropped: 0 }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What it has asked. `None`: it has gone, or says what nobody understands.
    pub(super) fn requests(&mut self) -> Option<Vec<Request>> {
        let mut requests = Vec::new();
        let mut packet = vec![0; PACKET_LIMIT];
        // Bounded, so that no client can keep the listener from the others.
        for _ in 0..64 {
            match recv(self.fd.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return None,
                Ok(length) => {
                    for frame in frames(&packet[..length]) {
                        requests.push(Request::decode(frame)?);
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
        Some(requests)
    }

    /// Says something, with the next packet.
    pub(super) fn say(&mut self, answer: &Answer) {
        let frame = answer.encode();
        if self.out.len() + frame.len() > PACKET_LIMIT {
            self.flush();
        }
        self.records += u64::from(matches!(answer, Answer::Record(_)));
        self.out.extend(frame);
        if self.out.len() >= PACKET {
            self.flush();
        }
    }

    /// Sends the packet, or drops it where there is no room.
    pub(super) fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        // One that has gone is found by its descriptor; what was for it is nobody's loss.
        if self.dropped > 0
            || matches!(self.send(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            self.dropped += self.records;
        }
        self.out.clear();
        self.records = 0;
    }

    /// Tells of a loss, if there was one and there is room again. `true`: it was told now.
    pub(super) fn tell_loss(&mut self) -> bool {
        if self.dropped == 0 {
            return false;
        }
        let lost = Record::Lost {
            target: None,
            at_ns: monotonic_ns(),
            count: Some(self.dropped),
            stage: Stage::Kernel,
        };
        self.out = Answer::Record(lost).encode();
        let told = self.send().is_ok();
        self.out.clear();
        if told {
            self.dropped = 0;
        }
        told
    }

    pub(super) fn owes(&self) -> bool {
        self.dropped > 0
    }

    fn send(&self) -> io::Result<()> {
        send(self.fd.as_raw_fd(), &self.out, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }
}
