//! How far a process is, as its stdio must know; and how the tasks of its stdio learn it.
//!
//! ```text
//! Holding ──release()──► Relaying ──exited()/drain()──► Exited
//!    └───────────┴──── ProcessIo dropped ────┴──► closed
//! ```
//!
//! Closed is not a phase: it is the channel's end, so that no path out of a request can forget it.

use tokio::sync::watch;

/// How far the process is. Only ever advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The runtime works; what is printed may be its own last words.
    Holding,
    /// The process is the container's.
    Relaying,
    /// The process is dead; others may still hold its output.
    Exited,
}

/// A task's view of the phase.
#[derive(Debug, Clone)]
pub(super) struct Life(watch::Receiver<Phase>);

impl Life {
    pub(super) fn new(phase: &watch::Sender<Phase>) -> Life {
        Life(phase.subscribe())
    }

    /// Waits until what is held may go to the client. `false` when it never may: closed.
    pub(super) async fn released(&mut self) -> bool {
        self.0.wait_for(|phase| *phase >= Phase::Relaying).await.is_ok()
    }

    /// Waits until the process is dead, or all is closed.
    pub(super) async fn exited(&mut self) {
        let _ = self.0.wait_for(|phase| *phase == Phase::Exited).await;
    }

    /// Waits until all is closed.
    pub(super) async fn closed(&mut self) {
        while self.0.changed().await.is_ok() {}
    }

    /// Waits for the next news of the phase; for ever once the process is dead, unless all is
    /// closed.
    pub(super) async fn changed(&mut self) {
        match self.has_exited() {
            true => self.closed().await,
            false => drop(self.0.changed().await),
        }
    }

    pub(super) fn has_exited(&self) -> bool {
        *self.0.borrow() == Phase::Exited || self.is_closed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.has_changed().is_err()
    }
}
