//! Tests of the `lookout` binary against fake shims that follow a script, and with a real daemon.

#![cfg(feature = "default")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests spawn their children themselves; only a shim must use its reaper"
)]

mod commands;
mod config;
mod daemon;
mod doctor;
mod events;
mod fake;
mod report;
mod run;
#[path = "../shim/harness/schema.rs"]
mod schema;
mod script;
mod terminal;
mod top;
mod users;
