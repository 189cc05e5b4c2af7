//! The writer's thread, which owns the connection that writes, and its recovery from errors.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Shared,
    queue::{Item, ShimEnd},
    schema::{self, Problem},
    store::Store,
};
use crate::{clock::realtime_ns, model::chain};

/// The first and the longest pause before a database that could not be used is tried again.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often a damaged file is replaced by a new one for the same items.
const ATTEMPTS: u32 = 2;

/// The state of the writer's thread.
struct Writer {
    shared: Arc<Shared>,
    /// The database; `None` after an error, until it is opened again.
    store: Option<Store>,
    /// When to try again after an error, and the pause after the next error.
    retry: Option<Instant>,
    pause: Duration,
    /// Ends of shims that could not be stored. There is one for each shim, and they are stored with
    /// the next items.
    ends: Vec<ShimEnd>,
}

/// Starts the thread, which opens the database.
pub(super) fn start(shared: Arc<Shared>, living: HashSet<String>) -> io::Result<JoinHandle<()>> {
    let mut writer =
        Writer { shared, store: None, retry: None, pause: RETRY_PAUSES.0, ends: Vec::new() };
    thread::Builder::new().name("history".to_owned()).spawn(move || {
        writer.begin(&living);
        writer.run();
    })
}

impl Writer {
    /// Opens the database, so that the cursors in it are known, and removes what became too old, or
    /// too large for a new `history_size`, while no daemon ran.
    fn begin(&mut self, living: &HashSet<String>) {
        if let Err(problem) = self.open_first(living)
            && self.recover(&problem)
            && let Err(problem) = self.open_first(living)
        {
            self.recover(&problem);
        }
        self.shared.is_open.send_replace(true);
        if self.store.is_some()
            && let Err(problem) = self.write(&[])
        {
            self.recover(&problem);
        }
    }

    fn run(mut self) {
        while let Some(mut items) = self.shared.queue.take() {
            items.extend(std::mem::take(&mut self.ends).into_iter().map(Item::Ended));
            let mut written = self.write(&items);
            for _ in 0..ATTEMPTS {
                match &written {
                    Err(problem) if self.recover(problem) => written = self.write(&items),
                    _ => break,
                }
            }
            match written {
                Ok(()) => self.note_success(),
                Err(_) => self.count_lost(items),
            }
        }
    }

    /// Opens the database when the daemon starts, and reads what an earlier daemon has left.
    fn open_first(&mut self, living: &HashSet<String>) -> Result<(), Problem> {
        let is_new = !self.shared.path.exists();
        let now_ns = realtime_ns();
        let mut store = Store::open(&self.shared.path, &self.shared.limits, now_ns)?;
        if !is_new {
            store.note_absence(living, now_ns)?;
        }
        let cursors = store.cursors()?;
        *self.shared.cursors.lock().unwrap_or_else(PoisonError::into_inner) = cursors;
        self.store = Some(store);
        Ok(())
    }

    fn write(&mut self, items: &[Item]) -> Result<(), Problem> {
        let Shared { path, limits, .. } = &*self.shared;
        let now_ns = realtime_ns();
        let store = match &mut self.store {
            Some(store) => store,
            None if self.retry.is_some_and(|at| Instant::now() < at) => {
                return Err(Problem::NotYet);
            }
            None => self.store.insert(Store::open(path, limits, now_ns)?),
        };
        if self.shared.damaged_files.load(Ordering::Relaxed)
            > self.shared.files.load(Ordering::Relaxed)
        {
            return Err(Problem::Damaged(None));
        }
        let (_, log) = schema::lengths(path);
        if log > limits.log_bytes() && !store.empty_log()? {
            return Err(Problem::Blocked);
        }
        let mut written = store.write(items, limits, now_ns)?;
        self.shared.stored.fetch_add(written.stored, Ordering::Relaxed);
        // Only after `history_size` was lowered, or after a time without events, is more to remove
        // than one transaction does.
        while written.has_more_to_remove && self.shared.queue.is_empty() {
            written = store.write(&[], limits, now_ns)?;
        }
        Ok(())
    }

    /// Notes a problem. Returns whether the database can be used again at once.
    fn recover(&mut self, problem: &Problem) -> bool {
        if matches!(problem, Problem::NotYet) {
            return false;
        }
        // A read-only copy of the connection's state could be wrong after any error.
        self.store = None;
        let now_ns = realtime_ns();
        if let Problem::Damaged(_) = problem {
            match schema::set_aside(&self.shared.path, now_ns) {
                Ok(aside) => {
                    self.shared.files.fetch_add(1, Ordering::Relaxed);
                    let (path, error) = (aside.display(), chain(problem));
                    tracing::error!(%path, error, "set aside a damaged history, beginning anew");
                    return true;
                }
                Err(error) => tracing::error!(%error, "failed to set aside a damaged history"),
            }
        }
        let reason = chain(problem);
        let mut unavailable = self.shared.lock_unavailable();
        if unavailable.as_ref() != Some(&reason) {
            tracing::error!(reason, "events are not stored in the history, retrying");
        }
        *unavailable = Some(reason);
        self.retry = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(RETRY_PAUSES.1);
        false
    }

    fn note_success(&mut self) {
        (self.retry, self.pause) = (None, RETRY_PAUSES.0);
        if self.shared.lock_unavailable().take().is_some() {
            tracing::info!("events are stored in the history again");
        }
    }

    /// Counts the events of items that were not stored. Their shims' cursors have not advanced, so
    /// the next events that are stored follow a hole, which becomes a gap.
    fn count_lost(&mut self, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Events { rows, .. } => {
                    let count = rows.iter().filter(|row| row.seq > 0).count() as u64;
                    self.shared.lost.fetch_add(count, Ordering::Relaxed);
                }
                Item::Ended(end) => self.ends.push(end),
            }
        }
    }
}
