//! The command `lookout`: what was typed (`args`), asked of the shims (`reach`, `stream`), shown (`render`).
//!
//! It asks the shims directly and changes nothing. Whatever a container wrote is escaped before it goes out.

mod args;
mod containers;
mod doctor;
mod escape;
mod events;
mod exit;
mod exits;
mod output;
mod ports;
mod reach;
mod render;
mod stream;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

pub use exit::Exit;

use self::{
    args::{Cli, Command, ConfigCommand},
    exit::Failure,
    output::{Output, Style},
};
use crate::config::Config;

/// Runs the command with its arguments, the program's name first. Prints to stdout, and notes and errors to stderr.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // That the reader has gone is no failure.
            let _ = message.print();
            return if message.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("failed to start: {error}"));
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(Box::pin(dispatch(cli.command)));
    // A connection's task may still wait for a peer.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(Failure::ReaderGone) => Exit::Ok,
        Err(failure) => {
            note(&failure.to_string());
            failure.exit()
        }
    }
}

async fn dispatch(command: Command) -> Result<Exit, Failure> {
    let mut out = Output::stdout();
    let exit = match command {
        Command::Events(args) => events::run(args, &mut out).await?,
        Command::Ps(args) => containers::ps(args, &mut out).await?,
        Command::Tree(args) => containers::tree(args, &mut out).await?,
        Command::Ports(args) => ports::run(args, &mut out).await?,
        Command::Exits(args) => exits::run(args, &mut out).await?,
        Command::Capabilities(args) => containers::capabilities(args, &mut out).await?,
        Command::Inspect(args) => containers::inspect(args, &mut out).await?,
        Command::Doctor(args) => doctor::run(&args, &mut out)?,
        Command::Config(ConfigCommand::Show { config, output, look }) => {
            let config = Config::load_with(config.as_deref(), |variable| std::env::var(variable).ok())
                .map_err(|error| Failure::Other(error.into()))?;
            let style = Style::of_stdout(look.no_trunc, look.quiet);
            out.write(&render::config::page(&config, output, style))?;
            Exit::Ok
        }
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

/// Tells a person something that is no part of the answer.
fn note(text: &str) {
    use std::io::Write as _;
    // Nobody may read it.
    let _ = writeln!(std::io::stderr(), "lookout: {}", escape::text(text.as_bytes()));
}
