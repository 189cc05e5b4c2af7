//! Keeps watch: every process of a container, told with what it is.
//!
//! ```text
//!  source    bytes of the kernel's become records, or a loss
//!     ▼
//!  track     pure: pairs fork and exec, keeps the tree, says whose
//!     ▼
//!  hub       gives each event its seq, encodes it into the journal, wakes subscribers
//!     ▼
//!  service   the Observer service          publish   containerd's bus
//! ```
//!
//! The container never waits for any of it and never notices its failure.

mod detector;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the shim's thread uses the rest"))]
mod engine;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the shim tells of input"))]
mod idle;
mod mailbox;
mod port_watcher;
mod spawned;

pub mod capability;
pub mod encode;
pub mod hub;
pub mod ports;
pub mod record;
pub mod redact;
pub mod source;
pub mod track;

// The seam: what asks the kernel, and what serves a shim.
#[cfg(target_os = "linux")]
mod front;
#[cfg(target_os = "linux")]
mod letter;
#[cfg(target_os = "linux")]
mod observer;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod setup;
#[cfg(target_os = "linux")]
mod thread;

#[cfg(target_os = "linux")]
pub mod bus;
#[cfg(target_os = "linux")]
pub mod node;
#[cfg(target_os = "linux")]
pub mod proc;
#[cfg(target_os = "linux")]
pub mod service;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{node, proc};
#[cfg(not(target_os = "linux"))]
use elsewhere::{place, setup};

pub use detector::{
    Detector, DetectorError, DoneEvent, ExecSeen, Flags, ForkSeen, ProcessEvent, Receivers,
};
#[cfg(target_os = "linux")]
pub use observer::{Helpers, Observer, Seat};
pub use port_watcher::{PortEvent, PortWatcher};
#[cfg(target_os = "linux")]
pub use service::Service;
#[cfg(target_os = "linux")]
pub use setup::{LISTEN_CONNECTOR, LOAD_PROGRAMS, listen_connector, load_programs};
pub use spawned::{Lifecycle, LifecycleEvent, ObservedChild, ObserverConfig, ObserverSubscriber};
