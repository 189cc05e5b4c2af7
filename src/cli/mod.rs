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
mod output;
mod ports;
mod registry;
mod render;
mod shim_set;
mod stream;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

pub use exit::Exit;

use crate::model::printable;

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
        Command::Config(ConfigCommand::Show { output, display }) => {
            let config = registry::config(config.as_deref())?;
            let style = Style::of_stdout(display.no_trunc, display.quiet);
            out.write(&render::config::page(&config, output, style))?;
            Exit::Ok
        }
        Command::Daemon(args) => registry::daemon(&args, config.as_deref(), &mut out).await?,
        Command::Ping(args) => registry::ping(&args, &mut out).await?,
        Command::Add(args) => registry::add(args, &mut out).await?,
        Command::List(args) => registry::list(args, &mut out).await?,
        Command::Tag(args) => {
            registry::edit(args.id, |request| request.add_tags = args.tags).await?
        }
        Command::Untag(args) => {
            registry::edit(args.id, |request| request.remove_tags = args.tags).await?
        }
        Command::Group(args) => {
            registry::edit(args.id, |request| request.add_groups = args.groups).await?
        }
        Command::Ungroup(args) => {
            registry::edit(args.id, |request| request.remove_groups = args.groups).await?
        }
        Command::Rename(args) => registry::rename(args).await?,
        Command::Kill(args) => registry::kill(args).await?,
        Command::Rm(args) => registry::rm(args).await?,
        Command::Run(args) => registry::run(args).await?,
        Command::Find(args) => registry::find(&args, config.as_deref(), &mut out)?,
        Command::Stats(args) => registry::stats(args, &mut out).await?,
        Command::Top(args) => registry::top(args, &mut out).await?,
        Command::Snapshot(command) => registry::snapshot(command, &mut out).await?,
        Command::Reset(args) => registry::reset(args).await?,
        Command::Man(args) => registry::man(&args, &mut out)?,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lookout", &mut script);
            out.write(&String::from_utf8_lossy(&script))?;
            Exit::Ok
        }
    };
    out.flush()?;
    Ok(exit)
}

/// Prints a warning or an error to stderr.
fn note(text: &str) {
    use std::io::Write as _;
    // A closed stderr must not end the command.
    let _ = writeln!(std::io::stderr(), "lookout: {}", printable::text(text.as_bytes()));
}
