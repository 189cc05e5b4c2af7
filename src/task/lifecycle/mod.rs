//! The state machines of a container and of an exec: which requests a state allows, and what
//! follows from each fact. Pure: no I/O, no clock, no async.
//!
//! ```text
//!            create            start               pause
//!  Creating ───────► Created ───────► Starting ─┐ ┌──────► Pausing ──► Paused
//!                       │                       ▼ │                      │
//!                       │                     Running ◄──── Resuming ◄───┘
//!                       │  init's exit           │  init's exit, from any of them
//!                       └───────────► Ending ◄───┘
//!                                        │  the last exec's exit has been reported
//!                                        ▼
//!                                     Stopped ──► Deleting ──► Deleted
//! ```
//!
//! Each machine answers two questions, and lists every state with every input:
//!
//! * May a request go ahead? `allow` ([`container::allow`], [`exec::allow`]) returns the next state
//!   or a refusal. Kill and delete may act on an operation in progress instead, so each has a
//!   function of its own: `allow_kill` and `allow_delete` return how the request is performed.
//! * What follows from a fact: an operation has ended, or a process was reaped? `advance`
//!   ([`container::advance`], [`exec::advance`]) returns the next state and an effect. A fact is
//!   never refused.
//!
//! `task::container` calls these functions, and performs the requests and the effects.
//!
//! After init has exited, the container stays `Ending` until every exec's exit has been reported.
//! The exit of init is the last exit of its container that clients see (containerd 892dc54bd,
//! 421a4b568).

pub mod container;
pub mod exec;
#[cfg(test)]
mod tests;

/// Why a request was refused. The texts are those of the Go shim, because clients match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The container is not created yet, or is already deleted.
    #[error("container not created")]
    NotCreated,
    /// The exec has not been started, so there is no process to signal.
    #[error("process not created")]
    NotStarted,
    /// The process has already exited.
    #[error("process already finished")]
    Finished,
    /// Init has exited, so no exec may start in its container.
    #[error("init process is not running")]
    InitNotRunning,
    /// The current state does not allow the request.
    #[error("cannot {verb} {state}")]
    State {
        /// The request, as a verb.
        verb: &'static str,
        /// The current state with its article and noun, as the Go shim words it.
        state: &'static str,
    },
    /// Another operation is changing the state. The owner of the container retries the request when
    /// that operation has ended, so clients never receive this error.
    #[error("another operation is in progress")]
    Busy,
}

/// Whether a signal asks a process to end: `SIGTERM`, `SIGKILL`, `SIGINT` or `SIGQUIT`. Only these
/// abort a create or a start in progress. For a process that exists, what a signal does is up to
/// the process; for one that does not exist yet, others such as `SIGWINCH` mean nothing.
#[must_use]
pub fn asks_to_end(signal: u32) -> bool {
    use nix::libc::{SIGINT, SIGKILL, SIGQUIT, SIGTERM};
    [SIGTERM, SIGKILL, SIGINT, SIGQUIT].iter().any(|end| end.unsigned_abs() == signal)
}

/// Returns a [`Denied::State`]. The tables of both state machines use it often.
const fn cannot(verb: &'static str, state: &'static str) -> Denied {
    Denied::State { verb, state }
}
