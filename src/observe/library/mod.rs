//! The library: observes a process tree, the ports of one, or one child, without a shim.

mod detector;
mod port_watcher;
mod spawned;

pub use detector::{
    Detector, DetectorError, DoneEvent, ExecSeen, Flags, ForkSeen, ProcessEvent, Receivers,
};
pub use port_watcher::{PortEvent, PortWatcher};
pub use spawned::{Lifecycle, LifecycleEvent, ObservedChild, ObserverConfig, ObserverSubscriber};
