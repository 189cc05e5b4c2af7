//! The `lookout` command.
//!
//! ```text
//!  args       the command line
//!  shim_set   connects to the shims that a command needs
//!  stream     merges the events of several shims
//!  render     formats answers as text; no I/O
//!  registry   the commands for registered processes
//! ```
//!
//! The commands for containers ask the shims directly and change nothing. The commands of
//! `registry` ask the daemon. All text that comes from a container is escaped before it is printed.

mod args;
mod containers;
#[cfg(target_os = "linux")]
mod doctor;
mod events;
mod exit;
mod exits;
#[cfg(feature = "man")]
mod man;
mod output;
mod ports;
#[cfg(all(test, feature = "default"))]
mod reference;
#[cfg(feature = "daemon")]
mod registry;
mod render;
mod shim_set;
mod stream;

use std::{ffi::OsString, path::Path};

use clap::Parser as _;

pub use exit::Exit;

use crate::{
    client::{self, Daemon},
    config::Config,
    model::printable,
};

use self::{
    args::{Cli, Command, ConfigCommand},
    exit::Failure,
    output::{Output, Style},
};

/// Runs the command. The first argument is the name of the program. Prints the result to stdout,
/// and warnings and errors to stderr.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // A closed output is not an error; see `Failure::OutputClosed`.
            let _ = message.print();
            return if message.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("failed to start the async runtime: {error}"));
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(Box::pin(dispatch(cli)));
    // Does not wait for async tasks: the task of a connection may still be waiting for its peer.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(Failure::OutputClosed) => Exit::Ok,
        Err(failure) => {
            note(&failure.to_string());
            failure.exit()
        }
    }
}

async fn dispatch(Cli { command, config }: Cli) -> Result<Exit, Failure> {
    let mut out = Output::stdout();
    let exit = match command {
        Command::Events(args) => events::run(args, &mut out).await?,
        Command::Ps(args) => containers::ps(args, &mut out).await?,
        Command::Tree(args) => containers::tree(args, &mut out).await?,
        Command::Ports(args) => ports::run(args, &mut out).await?,
        Command::Exits(args) => exits::run(args, &mut out).await?,
        Command::Capabilities(args) => containers::capabilities(args, &mut out).await?,
        Command::Inspect(args) => containers::inspect(args, &mut out).await?,
        #[cfg(target_os = "linux")]
        Command::Doctor(args) => doctor::run(&args, &mut out)?,
        #[cfg(feature = "daemon")]
        Command::Registry(command) => {
            Box::pin(registry::run(command, config.as_deref(), &mut out)).await?
        }
        Command::Config(ConfigCommand::Show { keys, output, display }) => {
            let config = load_host_config(config.as_deref())?;
            let style = Style::of_stdout(display.no_trunc, display.quiet);
            out.write(&render::config::page(&config, &keys, output, style))?;
            Exit::Ok
        }
        #[cfg(feature = "man")]
        Command::Man { directory } => man::run(directory.as_deref(), &mut out)?,
        #[cfg(feature = "completion")]
        Command::Completion { shell } => {
            let mut script = Vec::new();
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "lookout", &mut script);
            out.write(&String::from_utf8_lossy(&script))?;
            Exit::Ok
        }
    };
    out.flush()?;
    Ok(exit)
}

/// Loads the configuration of the host. `named` is the file of `--config`.
fn load_host_config(named: Option<&Path>) -> Result<Config, Failure> {
    Config::load_with(named, |variable| std::env::var(variable).ok()).map_err(Failure::Config)
}

/// Connects to the daemon at its default socket.
async fn connect() -> Result<Daemon, Failure> {
    Ok(Daemon::connect(&client::daemon::socket()).await?)
}

/// Prints a warning or an error to stderr.
fn note(text: &str) {
    use std::io::Write as _;
    // A closed stderr must not end the command.
    let _ = writeln!(std::io::stderr(), "lookout: {}", printable::text(text.as_bytes()));
}
