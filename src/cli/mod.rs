//! The `lookout` command.
//!
//! ```text
//!  args       parses the command line
//!  select     finds the containers by the names that a person has for them
//!  shim_set   connects to the shims that a command asks
//!  stream     merges the events of several shims
//!  unobserved finds containers that no shim observes
//!  render     formats answers as text; no I/O
//!  report     the life of a container as one document
//!  registry   the commands for registered processes
//!  top        the screen of `lookout top`
//! ```
//!
//! The commands for containers ask the shims directly and change nothing. The commands of
//! `registry` ask the daemon. All text that comes from a container is escaped before it is printed.

mod args;
mod clock;
mod containers;
mod description;
#[cfg(target_os = "linux")]
mod doctor;
mod events;
mod execs;
mod exit;
mod exits;
#[cfg(feature = "expressions")]
mod expression;
mod history;
mod inspect;
#[cfg(feature = "man")]
mod man;
mod merged;
mod output;
mod past;
mod ports;
#[cfg(feature = "daemon")]
mod rates;
#[cfg(all(test, feature = "default"))]
mod reference;
#[cfg(feature = "daemon")]
mod registry;
mod render;
#[cfg(feature = "report")]
mod report;
mod rows;
mod select;
mod shim_set;
mod sink;
mod starts;
mod stream;
#[cfg(all(feature = "top", target_os = "linux"))]
mod top;
mod unobserved;
mod wait;
mod watch;
mod width;

use std::{ffi::OsString, path::Path};

use clap::Parser as _;

pub use exit::Exit;

use crate::{
    client::{self, Daemon, Registration},
    config::Config,
    model::printable,
};

use self::{
    args::{Cli, Command, ConfigCommand, Format},
    exit::Failure,
    output::{Output, Style},
};

/// Runs `lookout` with these arguments, the first of which is the name of the program. Prints the
/// result to stdout, and warnings and errors to stderr.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // Printing fails if the output is closed, which is not an error; see
            // `Failure::OutputClosed`.
            let _ = message.print();
            return if message.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_message(&format!("failed to start the async runtime: {error}"));
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(Box::pin(run_command(cli)));
    // The runtime does not wait for its async tasks: the task of a connection may still be waiting
    // for its peer.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(Failure::OutputClosed) => Exit::Ok,
        Err(failure) => {
            print_message(&failure.to_string());
            failure.exit_status()
        }
    }
}

async fn run_command(Cli { command, config, color }: Cli) -> Result<Exit, Failure> {
    color.write_global();
    let mut out = Output::stdout();
    match &command {
        // It lists a mistake as one of the problems.
        #[cfg(target_os = "linux")]
        Command::Doctor(_) => {}
        _ => check_named_config(config.as_deref())?,
    }
    let exit = match command {
        Command::Events(args) => events::run(args, &mut out).await?,
        Command::Ps(args) => containers::ps(args, &mut out).await?,
        Command::Tree(args) => containers::tree(args, &mut out).await?,
        Command::Ports(args) => ports::run(args, &mut out).await?,
        Command::Exits(args) => exits::run(args, &mut out).await?,
        Command::Execs(args) => execs::run(args, &mut out).await?,
        Command::Capabilities(args) => containers::capabilities(args, &mut out).await?,
        Command::Inspect(args) => inspect::run(args, &mut out).await?,
        #[cfg(feature = "report")]
        Command::Report(args) => report::run(args, &mut out).await?,
        Command::Wait(args) => wait::run(args, &mut out).await?,
        #[cfg(target_os = "linux")]
        Command::Doctor(args) => doctor::run(&args, config.as_deref(), &mut out)?,
        // A pipe gets pages, as on systems without the screen.
        #[cfg(all(feature = "top", target_os = "linux"))]
        Command::Registry(args::registry::RegistryCommand::Top(args))
            if std::io::IsTerminal::is_terminal(&std::io::stdout()) =>
        {
            Box::pin(top::run(args)).await?
        }
        #[cfg(feature = "daemon")]
        Command::Registry(command) => {
            Box::pin(registry::run(command, config.as_deref(), &mut out)).await?
        }
        Command::Config(ConfigCommand::Show { keys, output, display }) => {
            let config = load_host_config(config.as_deref())?;
            let style = Style::for_stdout(display);
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

/// Prints a hint to stderr if a table is empty: what is missing, and what makes it appear.
fn hint_if_empty(shims: &[Registration], what: &str, format: &Format, is_quiet: bool) {
    if is_quiet || !matches!(format, Format::Table | Format::Wide) {
        return;
    }
    print_message(&match shims.is_empty() {
        true => format!(
            "no {what}: no container is watched; run one with --runtime io.containerd.lookout.v2"
        ),
        false => format!("no {what}"),
    });
}

/// Loads the configuration of the host. `named` is the file that `--config` names.
fn load_host_config(named: Option<&Path>) -> Result<Config, Failure> {
    Config::load_with(named, |variable| std::env::var(variable).ok()).map_err(Failure::Config)
}

/// Checks the configuration if the user has named its file, by `--config` or `LOOKOUT_CONFIG`. Most
/// commands need no setting, but a user who names a file expects it to be read. `lookout doctor`
/// reports a mistake among its other results.
///
/// A mistake in the default file does not concern such a command: it has to work on a node on which
/// that file is wrong.
fn check_named_config(named: Option<&Path>) -> Result<(), Failure> {
    let is_named =
        named.is_some() || std::env::var_os("LOOKOUT_CONFIG").is_some_and(|file| !file.is_empty());
    if is_named { load_host_config(named).map(drop) } else { Ok(()) }
}

/// Connects to the daemon at its default socket.
async fn connect_to_daemon() -> Result<Daemon, Failure> {
    Ok(Daemon::connect(&client::daemon::socket_path()).await?)
}

/// Prints a warning or an error to stderr.
fn print_message(text: &str) {
    use std::io::Write as _;
    // A closed stderr must not end the command.
    let _ = writeln!(std::io::stderr(), "lookout: {}", printable::safe_text(text.as_bytes()));
}
