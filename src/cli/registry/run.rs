//! `lookout run`: registers this process and then replaces it with the command.

use std::{
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::Command,
};

use super::connect_to_daemon;
use crate::cli::args::registry::RunArgs;
use crate::{
    api::{AddRequest, Selector, UpdateRequest},
    cli::exit::{Exit, Failure},
};

/// Registers this process, then runs the command in it by execve(2). The process keeps its pid, so
/// the command is registered before its first instruction. The parent of `lookout run` waits for
/// the command itself: exit status, terminal and signals are those of the command.
pub(in crate::cli) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let daemon = connect_to_daemon().await?;
    let labels = args.labels;
    let request = AddRequest {
        pid: i32::try_from(std::process::id()).map_err(|error| Failure::Other(error.into()))?,
        name: labels.name,
        tags: labels.tags,
        groups: labels.groups,
        // `/proc` still shows the arguments of `lookout run`. The entry gets those of the command
        // instead.
        will_run: args.command.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        ..Default::default()
    };
    let entry = daemon.add(&request).await?.entry.unwrap_or_default();
    let Some((program, arguments)) = args.command.split_first() else { return Ok(Exit::Usage) };
    let error = Command::new(program).args(arguments).exec();
    // `exec` returns only if it failed. Then the entry is removed again.
    let selector = Selector { ids: vec![entry.id], ..Default::default() };
    let removal =
        UpdateRequest { selector: Some(selector).into(), remove: true, ..Default::default() };
    let removed = daemon.update(&removal).await;
    let context = format!("failed to run {}", program.display());
    removed?;
    match error.kind() {
        io::ErrorKind::NotFound => Err(Failure::Missing(format!("{context}: {error}"))),
        _ => Err(Failure::Other(anyhow::Error::new(error).context(context))),
    }
}
