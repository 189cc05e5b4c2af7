//! One container, owned by one async task.
//!
//! The rest of the shim holds a [`Handle`], which sends [`Command`]s. The [`owner`] receives the
//! commands, the ends of operations and the exits as one stream of events, and handles each event
//! synchronously. Work that takes time runs concurrently with the owner as an operation
//! ([`operations`]).
//!
//! A request that must wait for an operation in progress (a pause during a start) waits in the
//! owner's list and is retried when the operation has ended. State, Wait, Kill, Connect and CloseIO
//! never wait.

mod command;
mod completion;
mod create;
mod delete;
mod exec;
mod kill;
mod operations;
mod owner;
mod process;

pub(super) use command::{
    Command, CreateRequest, Deleted, DeletedTask, ExecRequest, Handle, ListedProcess, ProcessEnd,
    StateAnswer, Status,
};
pub(super) use owner::spawn;
