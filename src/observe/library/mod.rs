//! The library: observes processes without a shim and without containerd.
//!
//! [`Detector`] observes a process tree or a cgroup, [`PortWatcher`] the ports of a process tree,
//! and [`ObserverConfig`] the start and the end of one child. [`Detector`] and [`PortWatcher`]
//! choose the best source that works.

mod detector;
mod port_watcher;
mod spawned;

pub use detector::{
    Detector, DetectorError, DoneEvent, ExecSeen, Flags, ForkSeen, ProcessEvent, Receivers,
};
pub use port_watcher::{PortEvent, PortWatcher};
pub use spawned::{Lifecycle, LifecycleEvent, ObservedChild, ObserverConfig, ObserverSubscriber};
