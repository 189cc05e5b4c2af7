//! Clients of the shims and of the node's daemon. The `lookout` command and the daemon use them.
//!
//! ```text
//!  registration   lists the live shims, from their registrations
//!  shims          discovers shims that start later
//!  shim           a client of one shim's Observer service
//!  follow         one shim's events, across reconnects
//!  batch          a batch of events, decoded on request
//!  json           the JSON form of events, processes, ports and exits
//!  daemon         a client of the daemon's Registry service
//!  access         explains why a user may not connect
//!  history        requests for the events and containers that the daemon has stored
//! ```
//!
//! This module does not print, and does not change a shim or a container. Only the daemon's
//! registry is changed, by requests through [`Daemon`].

mod access;
mod batch;
pub mod daemon;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod history;
pub mod json;
mod shim;
mod shims;

pub use crate::registration::{Registration, registrations, runtime_dir};
pub use access::AccessDenied;
pub use batch::{Batch, BatchStream, EncodedEvent, MalformedBatch};
pub use daemon::{Daemon, DaemonError};
pub use follow::{ConnectionState, EventFollower, FollowOptions, FollowStep};
pub use history::HistoryEvents;
pub use shim::{Shim, ShimError};
pub use shims::ShimDiscovery;
