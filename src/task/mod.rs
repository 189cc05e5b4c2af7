//! containerd's Task service: the containers of one shim and the requests that they answer.
//!
//! ```text
//!  service      decodes a request, sends a command, encodes the answer
//!     │
//!  supervisor   finds the container; accepts Shutdown when none is left
//!     │ command
//!  container    owns one container: its state, its streams, its execs; one task, no lock
//!     │    └─ lifecycle   pure: is the request allowed, and what follows from it?
//!     ▼
//!  runc, io, cgroup, rootfs
//! ```
//!
//! The async task of the container answers every command. Operations that take time (a call of the
//! OCI runtime, a mount, a read of a cgroup) run concurrently with that async task, and the end of
//! each operation is an event for it. Therefore State is answered even if another call hangs. No
//! request waits for a client's fifo. If a client disconnects, its request still completes.

pub mod cgroup;
mod container;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod io;
pub mod lifecycle;
pub mod rootfs;
mod service;
mod shared;
mod supervisor;
mod wire;

pub use error::TaskError;
pub use service::Service;
pub use shared::Shared;
pub use supervisor::Supervisor;
