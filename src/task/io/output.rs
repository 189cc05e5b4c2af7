//! One output stream of a process: from its pipe to the client's fifo, file or logger.
//!
//! ```text
//!            Buffering                      released                      end of the pipe
//! pipe ──► memory, ≤ 1 MiB ──► buffered output, then pipe ──► sink ──► linger (fifo) ──► closed
//! ```
//!
//! Output is buffered first, because until `create`, `exec` or `restore` has succeeded it is the
//! output of the OCI *runtime*. If the runtime fails, the error quotes the end of its output
//! ([`Source::quote`]). Because its output is buffered, no client can stall the runtime.
//!
//! An exec's own process may print before its runtime has returned. So buffered output is never
//! dropped or reordered: it is forwarded before any newer output. If there is more than 1 MiB, it
//! is probably output of the process itself, so the stream is then released before the request has
//! succeeded. If a runtime itself prints more than 1 MiB to a client that does not read, it waits
//! for that client until the runtime's own time limit ends it.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    select,
    sync::watch,
    time::sleep,
};
use tracing::warn;

use super::{
    fifo::LINGER,
    flow::{self, Step, YieldBudget},
    phase::PhaseReceiver,
    sink::Sink,
};
use crate::sys;

/// The largest number of bytes of one stream that are buffered in memory.
const BUFFER_LIMIT: usize = 1 << 20;

/// The largest number of bytes of the runtime's output that are quoted.
pub(super) const QUOTE_LIMIT: usize = 4 << 10;

/// The shim's end of an output pipe. The runtime writes to the other end first, and later the
/// process.
#[derive(Debug)]
pub(super) struct Source {
    pipe: AsyncFd<OwnedFd>,
    buffered: Mutex<Buffered>,
}

/// The output of one stream that is buffered until the release.
#[derive(Debug, Default)]
struct Buffered {
    bytes: Vec<u8>,
    /// Whether there was more output than can be buffered. If so, `bytes` is the end of the
    /// buffered output, kept to be quoted.
    overflowed: bool,
}

/// The result of reading the pipe during the phase `Buffering`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BufferRead {
    /// The pipe is empty.
    Dry,
    /// The last writer has closed the pipe.
    End,
    /// [`BUFFER_LIMIT`] is reached, so all output now goes to the client.
    Overflow,
}

impl Source {
    /// Registers the read end of a pipe, which must be non-blocking.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Arc<Source>> {
        let pipe = sys::watched(pipe, Interest::READABLE)?;
        Ok(Arc::new(Source { pipe, buffered: Mutex::default() }))
    }

    /// The last bytes of the output, at most [`QUOTE_LIMIT`]. Also reads the bytes that are in the
    /// pipe, because the relay may not have run since the runtime ended.
    pub(super) fn quote(&self) -> Vec<u8> {
        let mut buffered = self.lock();
        self.read_into_buffer(&mut buffered);
        let from = buffered.bytes.len().saturating_sub(QUOTE_LIMIT);
        buffered.bytes[from..].to_vec()
    }

    /// Reads until the pipe is empty or ends, or [`BUFFER_LIMIT`] is reached.
    fn read_into_buffer(&self, buffered: &mut Buffered) -> BufferRead {
        let mut chunk = [0; 8 << 10];
        loop {
            if buffered.overflowed || buffered.bytes.len() >= BUFFER_LIMIT {
                return BufferRead::Overflow;
            }
            match flow::read_now(self.pipe.get_ref(), &mut chunk) {
                Ok(0) => return BufferRead::End,
                Ok(count) => buffered.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return BufferRead::Dry,
                Err(_) => return BufferRead::End,
            }
        }
    }

    /// Takes the buffered output in order to forward it. If `overflowed` is true, keeps a copy of
    /// the end of the output to be quoted.
    fn take_buffered(&self, overflowed: bool) -> Vec<u8> {
        let mut buffered = self.lock();
        buffered.overflowed |= overflowed;
        let all = std::mem::take(&mut buffered.bytes);
        if overflowed {
            buffered.bytes.extend_from_slice(&all[all.len().saturating_sub(QUOTE_LIMIT)..]);
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Buffered> {
        // A reader that panicked has appended only whole chunks, so the bytes are consistent.
        self.buffered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays one stream from its first byte to its last. Drops `undrained` when all output is in the
/// sink.
pub(super) async fn relay(
    source: Arc<Source>,
    mut sink: Sink,
    mut phase: PhaseReceiver,
    undrained: watch::Receiver<()>,
) {
    let Some(buffered) = buffer_until_released(&source, &mut phase).await else { return };
    let mut closed = phase.clone();
    let overdue = async {
        closed.closed().await;
        sleep(LINGER).await;
    };
    select! {
        () = relay_to_sink(&source, buffered, &mut sink, phase.clone()) => {}
        () = overdue => return warn!("lost output of a process: its reader was too slow"),
    }
    // The pipe is closed before `finish`: a drain ends here, and does not wait for a reader of the
    // fifo.
    drop((source, undrained));
    sink.finish(phase).await;
}

/// Buffers the output until the request that makes the process has succeeded, so that it may go to
/// the client, and returns what was buffered. `None` if the stdio was closed before that, so that
/// the output must not be delivered.
async fn buffer_until_released(source: &Source, phase: &mut PhaseReceiver) -> Option<Vec<u8>> {
    loop {
        let mut ready = select! {
            biased;
            // The release is checked first: after it `relay_to_sink` moves the bytes, and no more
            // output is buffered.
            released = phase.released() => return released.then(|| source.take_buffered(false)),
            ready = source.pipe.readable() => ready.ok()?,
        };
        let read = source.read_into_buffer(&mut source.lock());
        match read {
            BufferRead::Dry => ready.clear_ready(),
            BufferRead::Overflow => return Some(source.take_buffered(true)),
            BufferRead::End => return phase.released().await.then(|| source.take_buffered(false)),
        }
    }
}

/// Writes the buffered output to the sink, then all output from the pipe until the pipe ends. If
/// the [`ProcessIo`](super::ProcessIo) is dropped before, writes only the bytes that are in the
/// pipe at that time.
async fn relay_to_sink(
    source: &Source,
    buffered: Vec<u8>,
    sink: &mut Sink,
    mut phase: PhaseReceiver,
) {
    if !buffered.is_empty() {
        sink.write(buffered).await;
    }
    let mut budget = YieldBudget::default();
    let mut left = None;
    loop {
        let ready = select! {
            biased;
            // The close is checked first, so that the remaining bytes are counted before more of
            // them are moved.
            () = phase.closed(), if left.is_none() => {
                // A surviving process may write without end, so only the bytes that are in the pipe
                // now are moved.
                left = Some(sys::fd::bytes_waiting(source.pipe.get_ref()).unwrap_or(0));
                continue;
            }
            ready = source.pipe.readable(), if left != Some(0) => ready,
            () = sink.retry_due(), if left.is_none() => {
                sink.retry().await;
                continue;
            }
            // Both branches are disabled: the stdio is closed, and the remaining bytes have been
            // moved.
            else => return,
        };
        let Ok(mut ready) = ready else { return };
        match sink.transfer(&mut ready, left.unwrap_or(usize::MAX)).await {
            Ok(Step::Moved(bytes)) => {
                left = left.map(|left| left.saturating_sub(bytes));
                budget.spend(bytes).await;
            }
            Ok(Step::Dry) => {}
            Ok(Step::End) => return,
            Err(error) => sink.discard_after(&error),
        }
    }
}
