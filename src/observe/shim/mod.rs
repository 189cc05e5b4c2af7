//! The observer of a shim: a thread of its own, the Observer service, and containerd's bus.
//!
//! ```text
//!  task ── ContainerObserver ──► observer ── message ──► inbox ──► actor    the observer thread
//!                                                                    │ pipeline
//!  lookout ── ttrpc ──► lazy_service ──► service ◄── event log ◄─────┘
//!                                                        └──► bus ──► publish ──► containerd
//! ```
//!
//! `observer`, `lazy_service`, `service` and `bus` run on the shim's one async thread, which never
//! waits for the observer thread except in a container's create. Nothing is made before the first
//! container that is to be observed.

mod actor;
pub mod bus;
mod confine;
mod lazy_service;
mod message;
mod observer;
pub mod service;
mod shared;
mod sources;

pub use lazy_service::tables;
pub use observer::{Observer, ShimIdentity};
pub use service::Service;
pub use shared::Helpers;
pub use sources::{LISTEN_CONNECTOR, LOAD_PROGRAMS, listen_connector, load_programs};
