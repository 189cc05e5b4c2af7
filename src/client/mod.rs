//! What talks to shims: the command and the node's daemon.
//!
//! ```text
//!  registration   which shims live, from their files
//!  shims          those that come later
//!  shim           one shim's Observer service
//!  follow         one shim's events, over broken connections
//!  batch          events as they came, decoded when asked for
//!  json           an event as JSON
//! ```
//!
//! Nothing here prints, and nothing here changes a shim or a container.

mod batch;
mod follow;
pub mod json;
mod shim;
mod shims;
pub mod text;

pub use crate::registration::{Registration, registrations, runtime_dir};
pub use batch::{Batch, Batches, Encoded};
pub use follow::{Follow, Step, Wanted};
pub use shim::{Shim, ShimError};
pub use shims::Shims;
