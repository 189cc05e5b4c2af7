//! The state of the node's containers, as the events of all shims report it.
//!
//! ```text
//!  registrations ──► follow each ──┬─► stream   writes every event, or a gap, to a file; cursors
//!                     (client)     ├─► view     living processes and open ports, by shim
//!                                  ├─► probe    each exec, for the readers of the probe socket
//!                                  ├─► metrics  counters
//!                                  └─► history  every event, or a gap, in a database; cursors
//! ```
//!
//! An event is written to the stream's file before it is used for anything else. The daemon asks a
//! shim for the events after the last one in that file. So a daemon that was killed at any moment
//! continues without losing an event, and writes no event twice. The history stores an event later,
//! and has cursors of its own, so after a kill a shim is asked for the events after the earlier of
//! its two cursors. The failure of one shim does not affect the others.

mod follow;
mod lineage;
pub mod stream;
pub mod view;

pub use follow::{Node, NodeError, living_epochs};
