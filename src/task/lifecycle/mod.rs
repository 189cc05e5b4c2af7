//! What a container and an exec may do, and what comes next. Pure: no I/O, no clock, no async.
//!
//! ```text
//!            create            start               pause
//!  Creating ───────► Created ───────► Starting ─┐ ┌──────► Pausing ──► Paused
//!                       │                       ▼ │                      │
//!                       │                     Running ◄──── Resuming ◄───┘
//!                       │  init's exit           │  init's exit, from any of them
//!                       └───────────► Ending ◄───┘
//!                                        │  the last exec's exit has been told
//!                                        ▼
//!                                     Stopped ──► Deleting ──► Deleted
//! ```
//!
//! [`container::step`] and [`exec::step`] each write out every pair of state and input. They answer
//! with the next state and an effect, or with a refusal; `task::container` performs effects.
//!
//! An init that has exited is `Ending` until every exec's exit has been told: the exit of init is
//! the last one of its container that clients see (containerd 892dc54bd, 421a4b568).

pub mod container;
pub mod exec;
#[cfg(test)]
mod tests;

/// Why a request was refused. The texts are those of the Go shim, which clients match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no container yet, or no longer.
    #[error("container not created")]
    NotCreated,
    /// The process has no pid yet.
    #[error("process not created")]
    NotStarted,
    /// The process has ended.
    #[error("process already finished")]
    Finished,
    /// Init has ended, so nothing new may start beside it.
    #[error("init process is not running")]
    InitNotRunning,
    /// The state does not allow it.
    #[error("cannot {verb} {state}")]
    State {
        /// What was asked for.
        verb: &'static str,
        /// The state that forbids it, with its article and noun.
        state: &'static str,
    },
    /// Another change of state is under way; ask again when it has ended. Never told to a client.
    #[error("another operation is under way")]
    Busy,
}

/// A short way to write [`Denied::State`].
const fn cannot(verb: &'static str, state: &'static str) -> Denied {
    Denied::State { verb, state }
}
