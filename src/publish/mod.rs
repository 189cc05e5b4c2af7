//! Publishes task events to containerd: in order, kept in the outbox, retried until acknowledged.
//!
//! ```text
//!  publish()  ──append──►  Outbox   ──next──►  sender  ──Forward──►  containerd
//!  (any task, never waits)  a file in           one task, one         acknowledges
//!                           the bundle          event at a time
//! ```
//!
//! Promise P1: while the shim lives, each event reaches containerd at least once and in order,
//! however long containerd is unreachable. An event is sent twice only if an acknowledgement was
//! lost.
//!
//! Any async task may call [`Publisher::publish`], which returns at once. Memory is bounded,
//! because unacknowledged events are kept in the outbox's file. This module does not depend on
//! containers.
//!
//! [`Publisher::send_best_effort`] is for events that may be lost. It has a queue and a connection
//! of its own.

mod best_effort;
mod connection;
mod event;
mod outbox;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use outbox::fuzzing;

mod sender;

pub use event::{TaskEvent, timestamp};
pub use sender::{Publisher, Sender, Unacknowledged, Unpublished};
