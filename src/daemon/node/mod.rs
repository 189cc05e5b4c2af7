//! The node's containers, as all its shims tell of them.
//!
//! ```text
//!  shims that come ──► follow one ──┬─► stream   every event, or a gap, in a file; its cursors
//!   (their files)      (client)     ├─► view     who lives and what is open, by shim
//!                                   ├─► probe    what begins to run, to whoever listens
//!                                   └─► metrics  counted
//! ```
//!
//! An event is in the stream's file before anything else is made of it, and the cursor that a shim
//! is asked after is the last event in that file: so a daemon that is killed anywhere goes on
//! without a hole and tells nothing twice. A shim that is lost costs nothing but its part.

mod follow;
pub mod stream;
pub mod view;

pub use follow::{Node, NodeError};
