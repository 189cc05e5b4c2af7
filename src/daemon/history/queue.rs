//! The queue from the tasks that follow shims to the writer's thread, bounded in bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::row::Row;

/// The most bytes of rows that wait for the writer. Beyond that, events are not stored: a slow disk
/// must not slow the shims or the daemon. At 20 000 events a second these are about 1.5 s.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// A transaction is begun when this many bytes of rows wait,
const BATCH_BYTES: usize = 1 << 20;

/// or this long after the first row came.
const BATCH_WINDOW: Duration = Duration::from_millis(100);

/// What identifies a shim in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct ShimIdentity {
    pub(super) epoch: String,
    pub(super) namespace: String,
    pub(super) id: String,
}

/// What the writer does in its next transaction.
#[derive(Debug)]
pub(super) enum Item {
    /// Stores events of a shim, in the order in which it sent them.
    Events { shim: Arc<ShimIdentity>, rows: Vec<Row> },
    /// Notes that a shim has ended.
    Ended(ShimEnd),
}

/// The end of a shim.
#[derive(Debug, Clone)]
pub(super) struct ShimEnd {
    pub(super) shim: Arc<ShimIdentity>,
    /// The seq of the last event that the daemon received.
    pub(super) last_seq: u64,
    /// Whether the shim has sent all its events.
    pub(super) is_complete: bool,
    pub(super) time_ns: u64,
}

/// The queue of the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<(Item, usize)>,
    bytes: usize,
    is_stopped: bool,
}

impl Queue {
    /// Appends rows of a shim. Returns false, and drops the rows, if the queue is full.
    pub(super) fn push_rows(&self, shim: &Arc<ShimIdentity>, rows: Vec<Row>) -> bool {
        let bytes: usize = rows.iter().map(Row::size).sum();
        let mut state = self.lock();
        // Rows that are larger than the whole queue can only be stored while it is empty.
        if state.is_stopped || (state.bytes > 0 && state.bytes + bytes > QUEUE_BYTES_MAX) {
            return false;
        }
        self.push(&mut state, Item::Events { shim: shim.clone(), rows }, bytes);
        true
    }

    /// Appends the end of a shim, also to a full queue: there is one for each shim.
    pub(super) fn push_end(&self, end: ShimEnd) {
        self.push(&mut self.lock(), Item::Ended(end), 0);
    }

    fn push(&self, state: &mut State, item: Item, bytes: usize) {
        let was_waiting = state.items.is_empty();
        state.items.push_back((item, bytes));
        state.bytes += bytes;
        // The writer is woken when its window begins, and when it ends early.
        if was_waiting || (state.bytes >= BATCH_BYTES && state.bytes - bytes < BATCH_BYTES) {
            self.changed.notify_all();
        }
    }

    /// Waits for the items of the next transaction; `None` after [`stop`](Self::stop), when all
    /// items have been taken.
    pub(super) fn take(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.is_stopped {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + BATCH_WINDOW;
        while state.bytes < BATCH_BYTES && !state.is_stopped {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (mut items, mut taken) = (Vec::new(), 0);
        while taken < BATCH_BYTES
            && let Some((item, bytes)) = state.items.pop_front()
        {
            items.push(item);
            taken += bytes;
        }
        state.bytes -= taken;
        Some(items)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Makes [`take`](Self::take) return `None` once the queue is empty.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
