//! Task events, from the shim to containerd: in order, journaled, retried until acknowledged.
//!
//! ```text
//!  publish()  ──append──►  Journal  ──next──►  sender  ──Forward──►  containerd
//!  (any task, never waits)  a file in           one task, one         acknowledges
//!                           the bundle          event at a time
//! ```
//!
//! Promise P1: while the shim lives, each event reaches containerd at least once and in order,
//! however long containerd is away. A second copy can come only after an acknowledgement was lost.
//!
//! [`Publisher::publish`] is called by whoever has something to tell and returns at once. Memory is
//! bounded because what waits, waits in the journal's file. Nothing here knows containers.
//!
//! [`Publisher::send_unjournaled`] is for what may be lost: it has a queue and a connection of its
//! own.

mod connection;
mod event;
mod journal;
mod sender;
mod unjournaled;

pub use event::{TaskEvent, timestamp};
pub use sender::{Publisher, Sender, Unacknowledged, Unpublished};
