//! The commands that add, list, change, signal and remove entries.

use super::{connect, find};
use crate::cli::args::registry::{AddArgs, KillArgs, ListArgs, RenameArgs, ResetArgs, RmArgs};
use crate::{
    api::{AddRequest, KillRequest, ResetRequest, Selector, UpdateRequest},
    cli::{
        exit::{Exit, Failure},
        note,
        output::{Output, Style},
        render,
    },
    registry::entry::Entry,
};

/// `lookout add`. If a process is refused, prints the entries that were added before it.
pub(in crate::cli) async fn add(args: AddArgs, out: &mut Output) -> Result<Exit, Failure> {
    let daemon = connect().await?;
    let pids = match &args.pattern {
        Some(pattern) => find::matching(pattern)?.into_iter().map(|found| found.pid).collect(),
        None => args.pids,
    };
    if pids.is_empty() {
        return Err(Failure::Missing("no process matches".to_owned()));
    }
    let is_search = args.pattern.is_some();
    let mut added = Vec::new();
    let mut refused = None;
    for pid in pids {
        let labels = args.labels.clone();
        let request = AddRequest {
            pid,
            name: labels.name,
            tags: labels.tags,
            groups: labels.groups,
            ..Default::default()
        };
        match daemon.add(&request).await {
            Ok(answer) => added.extend(answer.entry.into_option().map(Entry::from)),
            // A process that the pattern found may have exited since, or be registered already.
            // That must not stop the others.
            Err(error) if is_search && error.is_answer() => {
                if !args.display.quiet {
                    note(&error.to_string());
                }
                refused = refused.or(Some(error));
            }
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let style = Style::of_stdout(args.display.no_trunc, args.display.quiet);
    if !added.is_empty() {
        out.write(&render::entries::list(&added, args.output, style))?;
    }
    match refused {
        Some(error) if !is_search || added.is_empty() => {
            out.flush()?;
            Err(error.into())
        }
        _ => Ok(Exit::Ok),
    }
}

/// `lookout list`.
pub(in crate::cli) async fn list(args: ListArgs, out: &mut Output) -> Result<Exit, Failure> {
    let entries = connect().await?.list(&args.select.selector(Vec::new())).await?;
    let style = Style::of_stdout(args.display.no_trunc, args.display.quiet);
    out.write(&render::entries::list(&entries, args.output, style))?;
    Ok(Exit::Ok)
}

/// `lookout tag`, `untag`, `group`, `ungroup`. `set` puts the tags or groups into the request.
pub(in crate::cli) async fn edit(
    id: u64,
    set: impl FnOnce(&mut UpdateRequest),
) -> Result<Exit, Failure> {
    let mut request = UpdateRequest { selector: one(id), ..Default::default() };
    set(&mut request);
    connect().await?.update(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout rename`.
pub(in crate::cli) async fn rename(args: RenameArgs) -> Result<Exit, Failure> {
    let request =
        UpdateRequest { selector: one(args.id), name: Some(args.name), ..Default::default() };
    connect().await?.update(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout rm`.
pub(in crate::cli) async fn rm(args: RmArgs) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(args.ids)).into();
    let request = UpdateRequest { selector, all: args.all, remove: true, ..Default::default() };
    connect().await?.update(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout kill`.
pub(in crate::cli) async fn kill(args: KillArgs) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(args.ids)).into();
    let request = KillRequest {
        selector,
        all: args.all,
        signal: args.signal,
        tree: args.tree,
        ..Default::default()
    };
    connect().await?.kill(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout reset`.
pub(in crate::cli) async fn reset(args: ResetArgs) -> Result<Exit, Failure> {
    let request = ResetRequest { confirm: args.confirm, ..Default::default() };
    connect().await?.reset(&request).await?;
    Ok(Exit::Ok)
}

/// The selector of a single entry.
fn one(id: u64) -> protobuf::MessageField<Selector> {
    Some(Selector { ids: vec![id], ..Default::default() }).into()
}
