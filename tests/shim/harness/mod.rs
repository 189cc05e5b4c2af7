//! The environment of a shim test: a containerd that can be absent, a runtime that can misbehave, a
//! client, and a temporary node.
//!
//! ```text
//!  Daemon ◄── events ── shim ── argv ──► ScriptedRuntime
//!                        ▲
//!              Shim ─ ttrpc          all in one Node; dropping it kills every process
//! ```

mod bundle;
pub(crate) mod containerd;
mod daemon;
pub(crate) mod deadline;
mod delete;
mod fifo;
mod node;
mod process;
pub(crate) mod real;
pub(crate) mod schema;
mod scripted;
mod shim;
mod start;
mod task;
pub(crate) mod tools;

pub(crate) use bundle::{Bundle, any};
pub(crate) use daemon::{Behaviour, Daemon, Event};
pub(crate) use delete::delete;
pub(crate) use fifo::Fifo;
pub(crate) use node::Node;
pub(crate) use process::Process;
pub(crate) use scripted::{Hold, ScriptedRuntime};
pub(crate) use shim::Shim;
pub(crate) use start::{Answer, StartVerb};
pub(crate) use task::{Failure, Task, exec_request};
