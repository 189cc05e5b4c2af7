//! One output stream of a process: from its pipe to where the client wants it.
//!
//! ```text
//!            Holding                    released                      end of the pipe
//! pipe ──► memory, ≤ 1 MiB ──► what was held, then pipe ──► sink ──► linger (fifo) ──► closed
//! ```
//!
//! Held first, because until its `create`, `exec` or `restore` has succeeded it is the *runtime*
//! that prints: its last words are quoted in the error ([`Source::quote`]) and no client can stall
//! it. An exec's own process may print before its runtime is done, so nothing that was held is lost
//! or overtaken: it is forwarded first. Past 1 MiB it is surely the process, and the stream is
//! released before the rest of the request is. (A runtime that prints more than that itself, to a
//! client that does not read, waits for that client, until the runtime's own time limit ends it.)

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
    flow::{self, Step, Turn},
    phase::Life,
    sink::Sink,
};
use crate::sys;

/// How much of a stream is held in memory at most.
const HOLD: usize = 1 << 20;

/// How much of what the runtime printed is quoted.
pub(super) const QUOTE: usize = 4 << 10;

/// Our end of a pipe whose other end the runtime, and then the process, writes to.
#[derive(Debug)]
pub(super) struct Source {
    pipe: AsyncFd<OwnedFd>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// More came than is held: `bytes` is the end of what was held, kept to be quoted.
    overflowed: bool,
}

/// What a look at the pipe came to, while holding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulled {
    Dry,
    End,
    Overflow,
}

impl Source {
    /// `pipe` must be non-blocking.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Arc<Source>> {
        let pipe = sys::watched(pipe, Interest::READABLE)?;
        Ok(Arc::new(Source { pipe, held: Mutex::default() }))
    }

    /// The end of what was printed so far, at most [`QUOTE`] bytes. Looks into the pipe itself: the
    /// runtime may be dead for longer than the relay has been awake.
    pub(super) fn quote(&self) -> Vec<u8> {
        let mut held = self.lock();
        self.pull(&mut held);
        let from = held.bytes.len().saturating_sub(QUOTE);
        held.bytes[from..].to_vec()
    }

    /// Reads what is there, until there is enough.
    fn pull(&self, held: &mut Held) -> Pulled {
        let mut chunk = [0; 8 << 10];
        loop {
            if held.overflowed || held.bytes.len() >= HOLD {
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

    /// Takes what is held, to forward it.
    fn take(&self, overflowed: bool) -> Vec<u8> {
        let mut held = self.lock();
        held.overflowed |= overflowed;
        let all = std::mem::take(&mut held.bytes);
        if overflowed {
            held.bytes.extend_from_slice(&all[all.len().saturating_sub(QUOTE)..]);
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A reader that panicked has read whole chunks only.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one stream, from the first byte to the last. `undrained` is dropped when all is in the
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
        () = overdue => return warn!("output lost: its reader is too slow"),
    }
    drop((source, undrained));
    sink.finish(life).await;
}

/// Holds what comes, and hands it over when it may go to the client. `None` when it never may.
async fn hold(source: &Source, life: &mut Life) -> Option<Vec<u8>> {
    loop {
        let mut ready = select! {
            biased;
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

/// Moves what was held, then what comes, until the pipe ends; or until all is closed, and then what
/// is in the pipe at that time.
async fn carry(source: &Source, held: Vec<u8>, sink: &mut Sink, mut life: Life) {
    if !held.is_empty() {
        sink.write(held).await;
    }
    let mut turn = Turn::default();
    let mut left = None;
    loop {
        let ready = select! {
            biased;
            () = life.closed(), if left.is_none() => {
                left = Some(sys::fd::bytes_waiting(source.pipe.get_ref()).unwrap_or(0));
                continue;
            }
            ready = source.pipe.readable(), if left != Some(0) => ready,
            else => return,
        };
        let Ok(mut ready) = ready else { return };
        match sink.draw(&mut ready, left.unwrap_or(usize::MAX)).await {
            Ok(Step::Moved(bytes)) => {
                left = left.map(|left| left.saturating_sub(bytes));
                turn.spent(bytes).await;
            }
            Ok(Step::Dry) => {}
            Ok(Step::End) => return,
            Err(error) => sink.give_up(&error),
        }
    }
}
