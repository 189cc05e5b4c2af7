//! One output stream of a process: from its pipe to the client's fifo, file or logger.
//!
//! ```text
//!            Holding                    released                      end of the pipe
//! pipe ──► memory, ≤ 1 MiB ──► held output, then pipe ──► sink ──► linger (fifo) ──► closed
//! ```
//!
//! Output is held first, because until `create`, `exec` or `restore` has succeeded it is the OCI
//! *runtime* that prints. If the runtime fails, the error quotes its last output
//! ([`Source::quote`]); and no client can stall the runtime.
//!
//! An exec's own process may print before its runtime has returned. So held output is never dropped
//! or reordered: it is forwarded before anything newer. More than 1 MiB must come from the process
//! itself, so the stream is then released before the request has succeeded. If a runtime itself
//! prints more than 1 MiB to a client that does not read, it waits for that client until the
//! runtime's own time limit ends it.

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
    flow::{self, Budget, Step},
    phase::Life,
    sink::Sink,
};
use crate::sys;

/// Bytes of one stream that are held in memory at most.
const HOLD_LIMIT: usize = 1 << 20;

/// Bytes of the runtime's output that are quoted at most.
pub(super) const QUOTE_LIMIT: usize = 4 << 10;

/// The shim's end of an output pipe. First the runtime writes to the other end, then the process.
#[derive(Debug)]
pub(super) struct Source {
    pipe: AsyncFd<OwnedFd>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// More output came than can be held. `bytes` then is the end of the held output, kept to be
    /// quoted.
    overflowed: bool,
}

/// The result of reading the pipe during the holding phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulled {
    /// The pipe is empty now.
    Dry,
    /// The last writer has closed the pipe.
    End,
    /// The limit is reached, so the output goes to the client from here on.
    Overflow,
}

impl Source {
    /// Registers the read end of a pipe, which must be non-blocking.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Arc<Source>> {
        let pipe = sys::watched(pipe, Interest::READABLE)?;
        Ok(Arc::new(Source { pipe, held: Mutex::default() }))
    }

    /// The end of the output so far, at most [`QUOTE_LIMIT`] bytes. Reads the pipe itself, because
    /// the relay may not have run since the runtime died.
    pub(super) fn quote(&self) -> Vec<u8> {
        let mut held = self.lock();
        self.pull(&mut held);
        let from = held.bytes.len().saturating_sub(QUOTE_LIMIT);
        held.bytes[from..].to_vec()
    }

    /// Reads until the pipe is empty or ends, or [`HOLD_LIMIT`] is reached.
    fn pull(&self, held: &mut Held) -> Pulled {
        let mut chunk = [0; 8 << 10];
        loop {
            if held.overflowed || held.bytes.len() >= HOLD_LIMIT {
                return Pulled::Overflow;
            }
            match flow::read_now(self.pipe.get_ref(), &mut chunk) {
                Ok(0) => return Pulled::End,
                Ok(count) => held.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Pulled::Dry,
                Err(_) => return Pulled::End,
            }
        }
    }

    /// Takes the held output in order to forward it. With `overflowed`, keeps a copy of its end to
    /// be quoted.
    fn take(&self, overflowed: bool) -> Vec<u8> {
        let mut held = self.lock();
        held.overflowed |= overflowed;
        let all = std::mem::take(&mut held.bytes);
        if overflowed {
            held.bytes.extend_from_slice(&all[all.len().saturating_sub(QUOTE_LIMIT)..]);
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A reader that panicked has left whole chunks only, so the bytes are consistent.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays one stream from its first byte to its last. Drops `undrained` when everything is in the
/// sink.
pub(super) async fn relay(
    source: Arc<Source>,
    mut sink: Sink,
    mut life: Life,
    undrained: watch::Receiver<()>,
) {
    let Some(held) = hold(&source, &mut life).await else { return };
    let mut closed = life.clone();
    let overdue = async {
        closed.closed().await;
        sleep(LINGER).await;
    };
    select! {
        () = carry(&source, held, &mut sink, life.clone()) => {}
        () = overdue => return warn!("output lost: its reader was too slow"),
    }
    // The pipe is closed before the linger: a drain ends here, and waits for no reader of the fifo.
    drop((source, undrained));
    sink.finish(life).await;
}

/// Holds the output until it may go to the client, and returns it. `None` if it never may, because
/// the stdio was closed before the release.
async fn hold(source: &Source, life: &mut Life) -> Option<Vec<u8>> {
    loop {
        let mut ready = select! {
            biased;
            // Release first: from then on `carry` moves the bytes, and nothing more is held.
            released = life.released() => return released.then(|| source.take(false)),
            ready = source.pipe.readable() => ready.ok()?,
        };
        let pulled = source.pull(&mut source.lock());
        match pulled {
            Pulled::Dry => ready.clear_ready(),
            Pulled::Overflow => return Some(source.take(true)),
            Pulled::End => return life.released().await.then(|| source.take(false)),
        }
    }
}

/// Moves the held output, then everything from the pipe until it ends. If all is closed before,
/// moves only what is in the pipe at that time.
async fn carry(source: &Source, held: Vec<u8>, sink: &mut Sink, mut life: Life) {
    if !held.is_empty() {
        sink.write(held).await;
    }
    let mut budget = Budget::default();
    let mut left = None;
    loop {
        let ready = select! {
            biased;
            // Close first, so that the rest is measured before more of it is moved.
            () = life.closed(), if left.is_none() => {
                // A surviving process may go on writing for ever, so the rest is bounded by what is
                // there now.
                left = Some(sys::fd::bytes_waiting(source.pipe.get_ref()).unwrap_or(0));
                continue;
            }
            ready = source.pipe.readable(), if left != Some(0) => ready,
            // Both branches are disabled: all is closed, and the rest has been moved.
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
