//! The phase of a process as far as its stdio is concerned, and the channel that reports its
//! changes to the async tasks of the stdio.
//!
//! ```text
//! Buffering ──release()──► Relaying ──exited()/drain()──► Exited
//!    └─────────────┴──── ProcessIo dropped ────┴──► closed
//! ```
//!
//! `closed` is not a phase but the end of the channel. So the channel is closed whenever a
//! [`ProcessIo`](super::ProcessIo) is dropped, also by an early return with an error.

use tokio::sync::watch;

/// The phase of the process. It only advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The runtime runs. The output may be the runtime's own, so it is buffered.
    Buffering,
    /// The runtime has succeeded. All output is the container's and goes to the client.
    Relaying,
    /// The process is dead. Other processes may still hold its output open.
    Exited,
}

/// What a relay has of the channel: the current phase, and its changes.
#[derive(Debug, Clone)]
pub(super) struct PhaseReceiver(watch::Receiver<Phase>);

impl PhaseReceiver {
    pub(super) fn new(phase: &watch::Sender<Phase>) -> PhaseReceiver {
        PhaseReceiver(phase.subscribe())
    }

    /// Waits until the buffered output may go to the client. `false` if the
    /// [`ProcessIo`](super::ProcessIo) was dropped before.
    pub(super) async fn released(&mut self) -> bool {
        self.0.wait_for(|phase| *phase >= Phase::Relaying).await.is_ok()
    }

    /// Waits until the process is dead or the [`ProcessIo`](super::ProcessIo) is dropped.
    pub(super) async fn exited(&mut self) {
        let _ = self.0.wait_for(|phase| *phase == Phase::Exited).await;
    }

    /// Waits until the [`ProcessIo`](super::ProcessIo) is dropped.
    pub(super) async fn closed(&mut self) {
        while self.0.changed().await.is_ok() {}
    }

    /// Waits for the next change of the phase. Once the process is dead the only change left is the
    /// close.
    pub(super) async fn changed(&mut self) {
        match self.has_exited() {
            true => self.closed().await,
            false => drop(self.0.changed().await),
        }
    }

    /// Whether the process is dead or the [`ProcessIo`](super::ProcessIo) was dropped.
    pub(super) fn has_exited(&self) -> bool {
        *self.0.borrow() == Phase::Exited || self.is_closed()
    }

    /// Whether the [`ProcessIo`](super::ProcessIo) was dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.0.has_changed().is_err()
    }
}
