//! `lookout run`: this process is registered, and then becomes the command.

use std::{
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::Command,
};

use super::{args::RunArgs, connect};
use crate::{
    api::{AddRequest, Selector, UpdateRequest},
    cli::exit::{Exit, Failure},
};

/// Registered before the command's first instruction: it is the same process, which stays when it
/// begins to run something else (execve(2)). So whoever waits for `lookout run` waits for the
/// command, with its exit status, its terminal and its signals.
pub(in crate::cli) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let daemon = connect().await?;
    let words = args.words;
    let request = AddRequest {
        pid: i32::try_from(std::process::id()).map_err(|error| Failure::Other(error.into()))?,
        name: words.name,
        tags: words.tags,
        groups: words.groups,
        will_run: args.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        ..Default::default()
    };
    let entry = daemon.add(&request).await?.entry.unwrap_or_default();
    let Some((program, arguments)) = args.command.split_first() else { return Ok(Exit::Usage) };
    let error = Command::new(program).args(arguments).exec();
    // Nothing was run: nothing is left.
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
