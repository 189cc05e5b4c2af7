//! One shim process: its arguments, its start, serving, and its exit.
//!
//! ```text
//!  containerd ── start ──► [start]   binds the socket, spawns the server, waits until it serves
//!                             └────► [serve]   runs as long as its containers, until Shutdown
//!  containerd ── delete ─► [delete]  cleans up after a shim that died or exited
//!  containerd ── -info ──► [info]    prints the runtime's version and features
//! ```
//!
//! `start`, `delete` and `-info` are short-lived and create no threads; only the serving process
//! has an async runtime. Only this module depends on both containerd's protocol for shims and the
//! services that a shim serves.

mod args;
mod daemon;
mod delete;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handshake;
mod info;
mod node;
mod serve;
mod socket;
mod start;

use std::{io::Write as _, process::ExitCode};

pub use args::{Arguments, ArgumentsError, Verb};

use crate::{model::chain, observe::shim as observe};

/// The name of the binary, which containerd derives from [`RUNTIME`].
pub const NAME: &str = "containerd-shim-lookout-v2";

/// The name of the runtime in containerd's configuration.
pub const RUNTIME: &str = "io.containerd.lookout.v2";

/// Runs the verb of the command line. Returns exit code 0, or 1 after one line on stderr. On
/// success stderr stays empty, because containerd 1.6 reads it as part of the answer.
#[must_use]
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let result =
        Arguments::parse(&arguments).map_err(Into::into).and_then(|arguments| dispatch(&arguments));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{NAME}: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn dispatch(arguments: &Arguments) -> Outcome {
    match arguments.verb {
        Verb::Version => {
            println!(
                "{NAME}:\n  Version:  {}\n  Revision: {}\n",
                env!("CARGO_PKG_VERSION"),
                revision()
            );
            Ok(())
        }
        Verb::Info => info::run(),
        Verb::Start => start::run(arguments),
        Verb::Delete => delete::run(arguments),
        Verb::Serve => serve::run(arguments),
        Verb::LoadPrograms => node::report(observe::load_programs().map_err(Into::into)),
        Verb::ListenConnector => observe::listen_connector().map_err(Into::into),
    }
}

/// The commit that the binary was built from; `unknown` unless the build set `LOOKOUT_REVISION`.
fn revision() -> &'static str {
    option_env!("LOOKOUT_REVISION").unwrap_or("unknown")
}

/// An error with its causes on one line, because containerd logs it as one line.
fn one_line(error: &dyn std::error::Error) -> String {
    chain(error).replace('\n', " ")
}
