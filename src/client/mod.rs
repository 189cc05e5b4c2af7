//! What talks to shims: the command and the node's daemon.
//!
//! ```text
//!  registration   which shims live, from their files
//!  shims          those that come later
//!  shim           one shim's Observer service
//!  follow         one shim's events, over broken connections
//!  batch          events as they came, decoded when asked for
//!  json           an event as JSON
//!  daemon         the daemon's Registry service
//! ```
//!
//! Nothing here prints, and nothing here changes a shim or a container; the daemon's registry alone
//! is changed.

mod batch;
pub mod daemon;
mod follow;
pub mod json;
mod shim;
mod shims;
pub mod text;

pub use crate::registration::{Registration, registrations, runtime_dir};
pub use batch::{Batch, Batches, Broken, Encoded};
pub use daemon::{Daemon, DaemonError};
pub use follow::{Connected, Follow, Step, Wanted};
pub use shim::{Shim, ShimError};
pub use shims::Shims;
