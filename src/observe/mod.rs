//! Observes every process of a container, and delivers events with the identity, the arguments and
//! the attribution of each process.
//!
//! ```text
//!  source      turns bytes from the kernel into records, and reports losses
//!     ▼
//!  pipeline    one thread: reads the source, queries the platform, drives the pure core
//!     ▼
//!  track       pure: pairs fork and exec, keeps the process tree, attributes; ports and idleness
//!     ▼
//!  stream      the event log: numbers each event, keeps the newest events, wakes subscribers
//!     ▼
//!  shim        the shim's observer thread, the Observer service, containerd's bus
//!  library     the same pipeline for any process tree, without a shim
//! ```
//!
//! `redact` removes secrets before an event leaves the pipeline. `encode` writes events as bytes.
//! `capability` reports what this node can observe. `node` manages what all shims of the node
//! share. The container never waits for any of these, and their failures never reach it.

pub mod capability;
pub mod encode;
mod library;
pub mod node;
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only the Linux shim uses all of it")
)]
mod pipeline;
pub mod record;
pub mod redact;
pub mod source;
pub mod stream;
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only the Linux shim reports input")
)]
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
