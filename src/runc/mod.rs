//! The OCI runtime, driven by its command line.
//!
//! One [`Runc`] a container; one method a verb, in the argv forms of go-runc, which runc, crun and
//! their kin all take. Each call runs in the bundle, in a process group of its own, dies with the
//! shim, inherits no descriptor but its stdio, and is waited for by the [reaper](crate::reaper).
//!
//! What the runtime says about a failure is read once, here, and becomes a [`RuntimeError`] with a
//! [`Reason`]; nobody above looks at its words.
//!
//! Nothing here knows what state a container is in, and nothing here retries.

mod call;
mod capture;
mod error;
mod log;
mod options;
mod path;
mod verbs;

pub use call::{Cancel, Spawned};
pub use error::{Reason, RuntimeError};
pub use options::{CheckpointOptions, Options, OptionsError};
pub use path::{NotFound, find};
pub use verbs::{Checkpoint, Create, Exec, Restore, Runc};
