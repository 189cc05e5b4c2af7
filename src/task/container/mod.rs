//! One container, owned by one task.
//!
//! [`Handle`] is what the rest of the shim has: it sends [`Command`]s. The [`owner`] receives them,
//! together with the ends of operations and with exits, as one stream of events, each handled
//! synchronously; what takes time is an operation beside it ([`operations`]).
//!
//! A request that must wait for an operation under way (a pause during a start) waits in the
//! owner's list and is tried again when the operation has ended. State, Wait, Kill, Connect and
//! CloseIO never wait.

mod command;
mod create;
mod exec;
mod operations;
mod owner;
mod process;

pub(super) use command::{
    Command, CreateRequest, Deleted, ExecRequest, Handle, Pid, Snapshot, Status,
};
pub(super) use owner::spawn;
