//! The history: what the shims of the node have reported, in a database that outlives them.
//!
//! ```text
//!  node ── rows ──► queue ──► writer's thread ──► history.db ◄── query ◄── answer ◄── clients
//!                (bounded)     writing, limits     (SQLite)     (connections of their own)
//! ```
//!
//! * The tasks that follow shims hand over each event once, and never wait: if the queue is full or
//!   the disk is, the events are counted and become a gap.
//! * The writer stores events and the cursors of their shims in one transaction. After a kill of
//!   the daemon, the shims are asked for what follows these cursors.
//! * A reader reads one page a transaction, so a client that stops reading holds nothing that the
//!   writer needs.
//!
//! `docs/history.md` has the schema, and what a crash of the node may lose.

mod answer;
mod containers;
mod figures;
mod filter;
mod limits;
mod lookup;
mod query;
mod queue;
mod row;
mod schema;
mod store;
mod writer;
mod writing;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::{Semaphore, watch};

pub use self::{
    answer::{answer_containers, answer_events},
    figures::HistoryFigures,
    limits::Limits,
};
use self::{
    queue::{Queue, ShimEnd, ShimIdentity},
    row::Row,
};
use crate::{api::Event, clock::realtime_ns, registration::Registration};

/// How many requests are answered at once. Each has a thread while it reads a page, and a
/// connection with 2 MiB of pages.
const READERS_MAX: usize = 4;

/// The history of the node. A clone is another handle of the same history.
#[derive(Debug, Clone)]
pub struct History {
    shared: Arc<Shared>,
}

/// The thread of the history, which [`stop`](HistoryThread::stop) waits for.
#[derive(Debug)]
pub struct HistoryThread {
    history: History,
    thread: JoinHandle<()>,
}

/// What the handles and the writer share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    limits: Limits,
    queue: Queue,
    stored: AtomicU64,
    lost: AtomicU64,
    /// Why no events are stored now; `None` if they are.
    unavailable: Mutex<Option<String>>,
    /// The cursors that were in the database when it was opened, by epoch.
    cursors: Mutex<HashMap<String, u64>>,
    readers: Semaphore,
    /// Whether the thread has opened the database, or has failed to, so that the cursors are known.
    is_open: watch::Sender<bool>,
    /// How many files were set aside since the daemon started, and how many of them with the
    /// present one readers have found damaged.
    files: AtomicU64,
    damaged_files: AtomicU64,
}

/// A shim of which events are stored.
#[derive(Debug, Clone)]
pub struct RecordedShim {
    identity: Arc<ShimIdentity>,
    history: History,
    last_seq: u64,
}

impl History {
    /// Starts the thread that opens the history in `directory`, and creates it if there is none.
    /// `living` has the epochs of the living shims. A history that cannot be opened is tried again
    /// later.
    ///
    /// # Errors
    ///
    /// The error of a thread that cannot be made.
    pub fn start(
        directory: &Path,
        limits: Limits,
        living: HashSet<String>,
    ) -> std::io::Result<HistoryThread> {
        let shared = Arc::new(Shared {
            path: directory.join("history.db"),
            limits,
            queue: Queue::default(),
            stored: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            unavailable: Mutex::new(None),
            cursors: Mutex::new(HashMap::new()),
            readers: Semaphore::new(READERS_MAX),
            is_open: watch::Sender::new(false),
            files: AtomicU64::new(0),
            damaged_files: AtomicU64::new(0),
        });
        let thread = writer::start(shared.clone(), living)?;
        Ok(HistoryThread { history: Self { shared }, thread })
    }

    /// Waits until the cursors of the shims are known: the daemon serves while the database, on a
    /// slow disk, is being opened.
    pub async fn opened(&self) {
        // An error means that the sender is dropped, which this handle prevents.
        let _ = self.shared.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }

    /// A shim of which events are to be stored.
    #[must_use]
    pub fn shim(&self, registration: &Registration, epoch: &str) -> RecordedShim {
        let Registration { namespace, id, .. } = registration.clone();
        let identity = Arc::new(ShimIdentity { epoch: epoch.to_owned(), namespace, id });
        RecordedShim { identity, history: self.clone(), last_seq: 0 }
    }

    /// Figures for the metrics.
    #[must_use]
    pub fn figures(&self) -> HistoryFigures {
        let (file, log) = schema::lengths(&self.shared.path);
        HistoryFigures {
            bytes: file + log,
            stored: self.shared.stored.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            is_available: self.shared.lock_unavailable().is_none(),
        }
    }
}

impl HistoryThread {
    /// A handle of the history.
    #[must_use]
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// Stores what is in the queue, and waits for the thread. Blocks.
    pub fn stop(self) {
        self.history.shared.queue.stop();
        // A panic was reported when it happened.
        let _ = self.thread.join();
    }
}

impl RecordedShim {
    /// The seq of the last event that was recorded, by this daemon or one before it; `None` if no
    /// event was, or if the history could not be read.
    #[must_use]
    pub fn cursor(&self) -> Option<u64> {
        if self.last_seq > 0 {
            return Some(self.last_seq);
        }
        let cursors = self.history.shared.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.get(&self.identity.epoch).copied().filter(|seq| *seq > 0)
    }

    /// Stores events of the shim, in the order in which it sent them. Never waits.
    pub fn record(&mut self, events: Vec<Event>) {
        let seq = events.iter().map(|event| event.seq).max().unwrap_or_default();
        self.last_seq = self.last_seq.max(seq);
        let rows: Vec<Row> = events.into_iter().filter_map(Row::new).collect();
        if rows.is_empty() {
            return;
        }
        let count = rows.iter().filter(|row| row.seq > 0).count() as u64;
        // The rows that are dropped are a hole in the numbers of the shim's events, and so a gap.
        if !self.history.shared.queue.push_rows(&self.identity, rows) {
            self.history.shared.lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Notes that the shim has ended. `is_complete`: it has sent all its events.
    pub fn end(self, is_complete: bool) {
        let (last_seq, time_ns) = (self.last_seq, realtime_ns());
        let end = ShimEnd { shim: self.identity, last_seq, is_complete, time_ns };
        self.history.shared.queue.push_end(end);
    }
}

impl Shared {
    fn lock_unavailable(&self) -> MutexGuard<'_, Option<String>> {
        self.unavailable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
