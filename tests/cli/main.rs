//! The command `lookout`, run whole against a shim that follows a script.

#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests are no shim: they spawn their children themselves"
)]

mod commands;
mod daemon;
mod events;
mod fake;
mod run;
mod script;
