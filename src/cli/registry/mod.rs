//! The commands for registered processes. All but `find` and `man` ask the daemon.

mod entries;
mod find;
mod keys;
mod man;
mod run;
mod snapshot;
mod usage;

use std::path::Path;

use super::args::registry::{DaemonArgs, PingArgs};
use super::{
    exit::{Exit, Failure},
    output::Output,
};
use crate::{
    client::{self, Daemon},
    config::Config,
    daemon,
};

pub(super) use entries::{add, edit, kill, list, rename, reset, rm};
pub(super) use find::find;
pub(super) use man::man;
pub(super) use run::run;
pub(super) use snapshot::snapshot;
pub(super) use usage::{stats, top};

/// Loads the configuration of the host. `named` is the file of `--config`.
pub(super) fn config(named: Option<&Path>) -> Result<Config, Failure> {
    Config::load_with(named, |variable| std::env::var(variable).ok()).map_err(Failure::Config)
}

/// Connects to the daemon at its default socket.
pub(super) async fn connect() -> Result<Daemon, Failure> {
    Ok(Daemon::connect(&client::daemon::socket()).await?)
}

/// `lookout daemon`.
pub(super) async fn daemon(
    args: &DaemonArgs,
    named: Option<&Path>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let config = config(named)?;
    match daemon::run(&config, args.force).await.map_err(|error| Failure::Other(error.into()))? {
        daemon::Outcome::Ended => {}
        daemon::Outcome::Runs(pid) => out.write(&format!("{pid}\n"))?,
    }
    Ok(Exit::Ok)
}

/// `lookout ping`.
pub(super) async fn ping(args: &PingArgs, out: &mut Output) -> Result<Exit, Failure> {
    let daemon = connect().await?;
    daemon.ping(args.timeout).await?;
    out.write("pong\n")?;
    Ok(Exit::Ok)
}
