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
mod engine;
mod front;
mod idle;
mod letter;
mod mailbox;
mod observer;
mod place;
mod port_watcher;
mod setup;
mod spawned;
mod thread;

pub mod bus;
pub mod capability;
pub mod encode;
pub mod hub;
pub mod node;
pub mod ports;
pub mod proc;
pub mod record;
pub mod redact;
pub mod service;
pub mod source;
pub mod track;

pub use detector::{Detector, DetectorError, DoneEvent, ExecSeen, Flags, ForkSeen, ProcessEvent, Receivers};
pub use observer::{Helpers, Observer, Seat};
pub use port_watcher::{PortEvent, PortWatcher};
pub use service::Service;
pub use setup::{LISTEN_CONNECTOR, LOAD_PROGRAMS, listen_connector, load_programs};
pub use spawned::{Lifecycle, LifecycleEvent, ObservedChild, ObserverConfig, ObserverSubscriber};
