//! The command `lookout`: what was typed (`args`), asked of the shims (`reach`, `stream`), shown
//! (`render`).
//!
//! Commands for containers ask the shims directly and change nothing; those of `registry` ask the
//! daemon. Whatever a container wrote is escaped before it goes out.

mod args;
mod containers;
#[cfg(target_os = "linux")]
mod doctor;
mod escape;
mod events;
mod exit;
mod exits;
mod output;
mod ports;
mod reach;
mod registry;
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

/// Runs the command with its arguments, the program's name first. Prints to stdout, and notes and
/// errors to stderr.
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
    let result = runtime.block_on(Box::pin(dispatch(cli)));
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
        Command::Config(ConfigCommand::Show { output, look }) => {
            let config = registry::config(config.as_deref())?;
            let style = Style::of_stdout(look.no_trunc, look.quiet);
            out.write(&render::config::page(&config, output, style))?;
            Exit::Ok
        }
        Command::Daemon(args) => registry::daemon(&args, config.as_deref(), &mut out).await?,
        Command::Ping(args) => registry::ping(&args, &mut out).await?,
        Command::Add(args) => registry::add(args, &mut out).await?,
        Command::List(args) => registry::list(args, &mut out).await?,
        Command::Tag(args) => {
            registry::edit(args, |request, words| request.add_tags = words).await?
        }
        Command::Untag(args) => {
            registry::edit(args, |request, words| request.remove_tags = words).await?
        }
        Command::Group(args) => {
            registry::edit(args, |request, words| request.add_groups = words).await?
        }
        Command::Ungroup(args) => {
            registry::edit(args, |request, words| request.remove_groups = words).await?
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

/// Tells a person something that is no part of the answer.
fn note(text: &str) {
    use std::io::Write as _;
    // Nobody may read it.
    let _ = writeln!(std::io::stderr(), "lookout: {}", escape::text(text.as_bytes()));
}
