//! Observes every process of a container: each event with the identity, the arguments and the
//! attribution of its process.
//!
//! ```text
//!  source      bytes from the kernel become records, or a loss
//!     ▼
//!  pipeline    one thread: reads the source, asks the platform, drives the pure core
//!     ▼
//!  track       pure: pairs fork and exec, keeps the process tree, attributes; ports and idleness
//!     ▼
//!  stream      the event log: gives each event its sequence number, keeps it, wakes subscribers
//!     ▼
//!  shim        the shim's observer thread, the Observer service, containerd's bus
//!  library     the same pipeline for any process tree, without a shim
//! ```
//!
//! `redact` removes secrets before an event leaves the pipeline, `encode` writes events as bytes,
//! `capability` says what this node can observe, and `node` looks after what all shims of the node
//! share. The container never waits for any of it and never notices its failure.

pub mod capability;
pub mod encode;
mod library;
pub mod node;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the shim uses the rest"))]
mod pipeline;
pub mod record;
pub mod redact;
pub mod source;
pub mod stream;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the shim reports input"))]
pub mod track;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod shim;
    }
}

pub use library::{
    Detector, DetectorError, DoneEvent, ExecSeen, Flags, ForkSeen, Lifecycle, LifecycleEvent,
    ObservedChild, ObserverConfig, ObserverSubscriber, PortEvent, PortWatcher, ProcessEvent,
    Receivers,
};
