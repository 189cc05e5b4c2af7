//! Tests of the daemon's history: the daemon runs whole, and follows shims that this process
//! scripts.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should end there")]
#![expect(clippy::disallowed_methods, reason = "tests are not a shim and spawn their own children")]

mod answers;
mod bounds;
mod command;
mod daemon;
mod faults;
mod once;
mod scale;
mod script;
