//! The limits of connections that speak ttrpc: how many there are, how much of a request may be
//! unfinished, how many requests may be unanswered. A peer that exceeds one is cut off; the others
//! are served as before.

use std::{
    collections::{HashMap, HashSet},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep},
};

/// The most connections of one process, and of all. containerd has one for each container of a pod.
const OF_PROCESS_MAX: usize = 1024;
const CONNECTIONS_MAX: usize = 2048;

/// The most requests of a connection that are not answered, or have an answer that is not read.
/// containerd keeps a `Wait` open for each process of a task.
const UNANSWERED_MAX: usize = 2048;

/// The most bytes of unfinished requests of all connections. A connection with no more than
/// [`UNFINISHED_SMALL`] of them is never cut off for the others.
const UNFINISHED_MAX: usize = 16 << 20;
const UNFINISHED_SMALL: usize = 64 << 10;

/// The longest time in which a request must arrive, once its first byte has.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// The header of a ttrpc message: the length of the body and the id of the request (32 bits each,
/// big endian), the type, and flags.
const HEADER_LENGTH: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 3;
const REMOTE_CLOSED: u8 = 1;

/// The connections of one server. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// The number of connections of each process.
    by_pid: HashMap<Option<i32>, usize>,
    total: usize,
    /// The bytes of unfinished requests of all connections.
    unfinished: usize,
}

/// A connection within the limits. Reading or writing fails as soon as it exceeds one.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    connections: Connections,
    /// The peer; `None` if it is in a pid namespace that this process does not see.
    pid: Option<i32>,
    received: Frames,
    sent: Frames,
    /// The ids of the requests that are not answered.
    unanswered: HashSet<u32>,
    /// Bytes of the unfinished request, as they are counted in [`Counts::unfinished`].
    unfinished: usize,
    /// Elapses if the unfinished request does not arrive in time; `None` without such a request.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Finds the headers in a stream of messages.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_LENGTH],
    /// The number of bytes of `header` that were seen.
    header_seen: usize,
    /// The number of bytes of the body that were not seen yet, once the header is complete.
    body_left: usize,
}

/// The fields of a header that the limits need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    id: u32,
    kind: u8,
    flags: u8,
}

impl Connections {
    /// Counts a new connection. `None` if its process, or all together, have too many.
    pub(super) fn admit(&self, stream: UnixStream) -> Option<Connection> {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let mut counts = self.lock();
        let of_process = counts.by_pid.get(&pid).copied().unwrap_or_default();
        if of_process >= OF_PROCESS_MAX || counts.total >= CONNECTIONS_MAX {
            tracing::warn!(pid, "refused a connection: there are too many");
            return None;
        }
        counts.by_pid.insert(pid, of_process + 1);
        counts.total += 1;
        drop(counts);
        Some(Connection {
            stream,
            connections: self.clone(),
            pid,
            received: Frames::default(),
            sent: Frames::default(),
            unanswered: HashSet::new(),
            unfinished: 0,
            deadline: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Counts what was received.
    fn check_received(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let header = self.received.advance(&mut bytes);
            if let Some(header) = header.filter(|header| header.kind == REQUEST) {
                self.unanswered.insert(header.id);
            }
        }
        let mut counts = self.connections.lock();
        counts.unfinished -= self.unfinished;
        self.unfinished = self.received.unfinished();
        counts.unfinished += self.unfinished;
        if self.unfinished > UNFINISHED_SMALL && counts.unfinished > UNFINISHED_MAX {
            return Err("too many bytes of unfinished requests");
        }
        if self.unanswered.len() > UNANSWERED_MAX {
            return Err("too many requests without an answer that was read");
        }
        Ok(())
    }

    /// Counts what was sent.
    fn note_sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(header) = self.sent.advance(&mut bytes) else { continue };
            let is_last = header.kind == DATA && header.flags & REMOTE_CLOSED != 0;
            if header.kind == RESPONSE || is_last {
                self.unanswered.remove(&header.id);
            }
        }
    }

    fn cut_off(&self, why: &'static str) -> io::Error {
        tracing::warn!(pid = self.pid, why, "cut off a connection");
        io::Error::new(io::ErrorKind::ConnectionAborted, why)
    }

    /// Checks the time limit of an unfinished request.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.received.is_between() {
            return Poll::Pending;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(REQUEST_TIME)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(self.cut_off("a request did not arrive in time"))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let checked = self.check_received(&buffer.filled()[before..]);
                if self.received.is_between() {
                    self.deadline = None;
                }
                Poll::Ready(checked.map_err(|why| self.cut_off(why)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_deadline(context).map(Err),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.note_sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut counts = self.connections.lock();
        counts.total -= 1;
        counts.unfinished -= self.unfinished;
        if let Some(of_process) = counts.by_pid.get_mut(&self.pid) {
            *of_process -= 1;
            if *of_process == 0 {
                counts.by_pid.remove(&self.pid);
            }
        }
    }
}

impl Frames {
    /// Takes the bytes of one header or one body from `bytes`, or as many as there are. Returns the
    /// header if these bytes have completed it.
    fn advance(&mut self, bytes: &mut &[u8]) -> Option<Header> {
        if self.header_seen == HEADER_LENGTH && self.body_left > 0 {
            let taken = self.body_left.min(bytes.len());
            *bytes = &bytes[taken..];
            self.body_left -= taken;
            self.finish_frame();
            return None;
        }
        let taken = (HEADER_LENGTH - self.header_seen).min(bytes.len());
        let (part, rest) = bytes.split_at(taken);
        self.header[self.header_seen..][..taken].copy_from_slice(part);
        *bytes = rest;
        self.header_seen += taken;
        if self.header_seen < HEADER_LENGTH {
            return None;
        }
        let [.., kind, flags] = self.header;
        self.body_left = self.number(0) as usize;
        self.finish_frame();
        Some(Header { id: self.number(4), kind, flags })
    }

    /// The number of 32 bits at the offset `at` of the header.
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes([0, 1, 2, 3].map(|offset| self.header[at + offset]))
    }

    /// Begins the next message if this one is complete.
    fn finish_frame(&mut self) {
        if self.body_left == 0 {
            self.header_seen = 0;
        }
    }

    /// Whether the last message is complete and the next one has not begun.
    fn is_between(&self) -> bool {
        self.header_seen == 0
    }

    /// The number of bytes of the unfinished message that were seen.
    fn unfinished(&self) -> usize {
        if self.header_seen < HEADER_LENGTH {
            return self.header_seen;
        }
        HEADER_LENGTH + (self.number(0) as usize - self.body_left)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use containerd_shim_protos::ttrpc::proto::GenMessage;
    use tokio::runtime::{Builder, Runtime};

    use super::{Frames, HEADER_LENGTH, Header};

    /// Gives a stream of messages to the limits, whole and in parts, and to the crate `ttrpc`. The
    /// first byte is the length of the parts.
    pub(crate) fn messages(bytes: &[u8]) {
        thread_local! {
            static RUNTIME: Runtime = Builder::new_current_thread().build().expect("no driver");
        }
        let Some((&part, stream)) = bytes.split_first() else { return };
        let whole = headers(stream, stream.len());
        assert_eq!(whole, headers(stream, part.into()));
        let mut rest = stream;
        for header in whole {
            // It waits for nothing: all bytes are there.
            let read = RUNTIME.with(|runtime| runtime.block_on(GenMessage::read_from(&mut rest)));
            // The rest is cut off, or the body is longer than the crate allows.
            let Ok(message) = read else { break };
            let of_crate = Header {
                id: message.header.stream_id,
                kind: message.header.type_,
                flags: message.header.flags,
            };
            assert_eq!(header, of_crate);
        }
    }

    fn headers(stream: &[u8], part: usize) -> Vec<Header> {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for mut part in stream.chunks(part.max(1)) {
            while !part.is_empty() {
                found.extend(frames.advance(&mut part));
            }
        }
        assert!(frames.is_between() == (frames.unfinished() == 0));
        assert!(frames.unfinished() <= stream.len().max(HEADER_LENGTH));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u32, kind: u8, flags: u8, body: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(body).unwrap().to_be_bytes().to_vec();
        bytes.extend(id.to_be_bytes());
        bytes.extend([kind, flags]);
        bytes.resize(HEADER_LENGTH + body, b'x');
        bytes
    }

    proptest::proptest! {
        /// Check that the headers are found however the bytes are cut.
        #[test]
        fn headers_are_found_in_any_parts(
            bodies in proptest::collection::vec(0_usize..40, 1..8),
            part in 1_usize..50,
        ) {
            let messages = (0..).zip(&bodies).map(|(id, &body)| message(id, REQUEST, 0, body));
            let all: Vec<u8> = messages.flatten().collect();
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for mut bytes in all.chunks(part) {
                while !bytes.is_empty() {
                    found.extend(frames.advance(&mut bytes).map(|header| header.id));
                }
            }
            proptest::prop_assert!(frames.is_between() && frames.unfinished() == 0);
            let expected: Vec<u32> = (0..).zip(&bodies).map(|(id, _)| id).collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }

    /// Check that an answer, and the last part of a streamed one, end a request; and that the
    /// counts return to zero.
    #[tokio::test]
    async fn requests_and_bytes_are_counted_until_they_end() {
        let connections = Connections::default();
        let (stream, _peer) = UnixStream::pair().unwrap();
        let mut connection = connections.admit(stream).unwrap();
        for id in [1, 3] {
            connection.check_received(&message(id, REQUEST, 0, 5)).unwrap();
        }
        connection.note_sent(&message(1, RESPONSE, 0, 100));
        connection.note_sent(&message(3, DATA, 0, 7));
        assert_eq!(connection.unanswered, HashSet::from([3]));
        connection.note_sent(&message(3, DATA, REMOTE_CLOSED, 0));
        assert!(connection.unanswered.is_empty());
        connection.check_received(&message(5, REQUEST, 0, 1000)[..300]).unwrap();
        assert_eq!(connections.lock().unfinished, 300);
        drop(connection);
        let counts = connections.lock();
        assert_eq!((counts.total, counts.unfinished, counts.by_pid.len()), (0, 0, 0));
    }

    /// Check that the connections of one process are bounded, and that a place becomes free again.
    #[tokio::test]
    async fn connections_of_one_process_are_bounded() {
        let connections = Connections::default();
        let admit = || connections.admit(UnixStream::pair().unwrap().0);
        let mut admitted: Vec<_> = (0..OF_PROCESS_MAX).map(|_| admit().unwrap()).collect();
        assert!(admit().is_none());
        admitted.pop();
        assert!(admit().is_some());
    }
}
