//! The node's daemon: serves the registry of processes, and one view of what all shims report.
//!
//! ```text
//!  lookout add, list, kill …  ── ttrpc ──►  service ──► registry
//!  lookout events, stats …    ── ttrpc ──►     │
//!  shims ── events ──────────────────────►  node      one stream, one view, the probe socket
//!                                            │
//!                                         history     every event, in a database
//!  scrapers ── HTTP ─────────────────────►  sockets ──► metrics
//! ```
//!
//! Shims and the commands for containers work without the daemon. The daemon has no timer while no
//! registered process is alive, and answers a command only after the change is on disk.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        mod confine;
        pub mod history;
        pub mod instance;
        mod kill;
        pub mod label_usage;
        pub mod metrics;
        pub mod node;
        mod serve;
        pub mod service;
        pub mod sockets;
        pub mod unpublished;
        mod usage;
        pub use serve::{ServeError, run};
    } else {
        mod unsupported;
        pub use unsupported::{ServeError, run};
    }
}

/// How [`run`] ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// The daemon served until SIGTERM or SIGINT.
    Stopped,
    /// A daemon with this pid runs already, so this process did nothing.
    AlreadyRuns(i32),
}
