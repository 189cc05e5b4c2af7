//! The node's daemon: a registry of processes, and one view of what all shims tell.
//!
//! ```text
//!  lookout add, list, kill …            kernel
//!      │ ttrpc, root or the same user      │ an end, by pidfd
//!      ▼                                   ▼
//!   service ── job ──────────────────►  keeper     one thread owns it all
//!      │                                   ├─ registry   pure: entries, indexes, may I?
//!      │ off the thread that answers       ├─ store      one line a command, synced before the answer
//!      ├─ look    who is this pid?         └─ liveness   a pidfd each, one epoll
//!      ├─ kill    by pidfd, trees too
//!      └─ sample  what it uses, now
//!
//!  shims ── events ──► node      stream, view, probe, metrics
//! ```
//!
//! No shim and no command for containers needs it. It never signals a process by its pid, has no
//! timer while nothing that is registered lives, and answers no command before that is on disk.

pub mod registry;
pub mod store;

// The seam: what holds a process, asks the kernel about it, and serves.
#[cfg(target_os = "linux")]
pub mod keeper;
#[cfg(target_os = "linux")]
pub mod kill;
#[cfg(target_os = "linux")]
pub mod liveness;
#[cfg(target_os = "linux")]
pub mod look;
#[cfg(target_os = "linux")]
pub mod metrics;
#[cfg(target_os = "linux")]
pub mod node;
#[cfg(target_os = "linux")]
pub mod place;
#[cfg(target_os = "linux")]
pub mod sample;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
pub mod service;
#[cfg(target_os = "linux")]
pub mod sockets;

#[cfg(not(target_os = "linux"))]
mod elsewhere;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{ServeError, run};
#[cfg(target_os = "linux")]
pub use serve::{ServeError, run};

/// How a daemon's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Ended,
    /// Another one runs, of this pid; this one did nothing.
    Runs(i32),
}
