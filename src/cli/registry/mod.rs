//! The commands for registered processes. All but `find` ask the daemon.

mod entries;
mod find;
mod run;
mod snapshot;
mod usage;

use std::path::Path;

use super::args::registry::{DaemonArgs, PingArgs, RegistryCommand};
use super::{
    connect_to_daemon,
    exit::{Exit, Failure},
    output::Output,
};
use crate::daemon;

use entries::{add, edit_labels, kill, list, rename, reset, rm};
use find::find;
use snapshot::snapshot;
use usage::{stats, top};

/// Runs a command of the registry. `config` is the file that `--config` names.
pub(super) async fn run(
    command: RegistryCommand,
    config: Option<&Path>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        RegistryCommand::Daemon(args) => run_daemon(&args, config, out).await,
        RegistryCommand::Ping(args) => ping(&args, out).await,
        RegistryCommand::Add(args) => add(args, out).await,
        RegistryCommand::List(args) => list(args, out).await,
        RegistryCommand::Tag(args) => {
            edit_labels(args.id, |request| request.add_tags = args.tags).await
        }
        RegistryCommand::Untag(args) => {
            edit_labels(args.id, |request| request.remove_tags = args.tags).await
        }
        RegistryCommand::Group(args) => {
            edit_labels(args.id, |request| request.add_groups = args.groups).await
        }
        RegistryCommand::Ungroup(args) => {
            edit_labels(args.id, |request| request.remove_groups = args.groups).await
        }
        RegistryCommand::Rename(args) => rename(args).await,
        RegistryCommand::Kill(args) => kill(args).await,
        RegistryCommand::Rm(args) => rm(args).await,
        RegistryCommand::Run(args) => run::run(args).await,
        RegistryCommand::Find(args) => find(&args, config, out),
        RegistryCommand::Stats(args) => stats(args, out).await,
        RegistryCommand::Top(args) => top(args, out).await,
        RegistryCommand::Snapshot(command) => snapshot(command, out).await,
        RegistryCommand::Reset(args) => reset(args).await,
    }
}

/// `lookout daemon`: runs the daemon until SIGTERM, or prints the pid of a daemon that runs
/// already.
async fn run_daemon(
    args: &DaemonArgs,
    named: Option<&Path>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let config = super::load_host_config(named)?;
    match daemon::run(&config, args.force).await.map_err(|error| Failure::Other(error.into()))? {
        daemon::RunOutcome::Stopped => {}
        daemon::RunOutcome::AlreadyRuns(pid) => out.write(&format!("{pid}\n"))?,
    }
    Ok(Exit::Ok)
}

/// `lookout ping`: checks that the daemon answers.
async fn ping(args: &PingArgs, out: &mut Output) -> Result<Exit, Failure> {
    let daemon = connect_to_daemon().await?;
    daemon.ping(args.timeout).await?;
    out.write("pong\n")?;
    Ok(Exit::Ok)
}
