//! The node's daemon: serves the registry of processes, and one view of what all shims report.
//!
//! ```text
//!  lookout add, list, kill …  ── ttrpc ──►  service ──► registry
//!  lookout events, stats …    ── ttrpc ──►     │
//!  shims ── events ──────────────────────►  node      one stream, one view, the probe socket
//!  scrapers ── HTTP ─────────────────────►  sockets ──► metrics
//! ```
//!
//! No shim and no command for containers needs it. It has no timer while no registered process
//! lives, and answers no command before it is on disk.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod instance;
        pub mod metrics;
        pub mod node;
        mod serve;
        pub mod service;
        pub mod sockets;
        pub mod unpublished;
        pub use serve::{ServeError, run};
    } else {
        mod unsupported;
        pub use unsupported::{ServeError, run};
    }
}

/// How a daemon's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Ended,
    /// Another one runs, of this pid; this one did nothing.
    Runs(i32),
}
