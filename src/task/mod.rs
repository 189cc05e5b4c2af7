//! containerd's Task service: which container, what may it do, what comes next.
//!
//! ```text
//!  service      decode a request, ask, encode the answer
//!     │
//!  supervisor   which container? who is left?
//!     │ command
//!  container    owns one: its state, its streams, its execs; one task, no lock
//!     │    └─ lifecycle   pure: may it? what next?
//!     ▼
//!  runc, io, cgroup, rootfs
//! ```
//!
//! A command is answered by its container's own task. What takes time (the runtime, a mount, a read
//! of a cgroup) runs beside that task and comes back as one event, so State answers while any other
//! call hangs. No request waits for a client's fifo, and a client that disconnects ends nothing.

pub mod cgroup;
mod container;
mod error;
pub mod io;
pub mod lifecycle;
pub mod rootfs;
mod service;
mod supervisor;
mod wire;

pub use error::TaskError;
pub use service::Service;
pub use supervisor::{Shared, Supervisor};
