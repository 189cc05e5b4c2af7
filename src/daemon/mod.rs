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
//! No shim and no command for containers needs it. It never signals a process by its pid, has no timer while
//! nothing that is registered lives, and answers no command before that is on disk.

pub mod keeper;
pub mod kill;
pub mod liveness;
pub mod look;
pub mod metrics;
pub mod node;
pub mod place;
pub mod registry;
pub mod sample;
mod serve;
pub mod service;
pub mod sockets;
pub mod store;

pub use serve::{Outcome, ServeError, run};
