//! The commands that add, list, change, signal and remove entries.

use super::{connect_to_daemon, find};
use crate::cli::args::registry::{AddArgs, KillArgs, ListArgs, RenameArgs, ResetArgs, RmArgs};
use crate::{
    api::{AddRequest, ContainerExec, KillRequest, ResetRequest, Selector, UpdateRequest},
    cli::{
        exit::{Exit, Failure},
        output::{Output, Style},
        print_message, render,
    },
    model::printable,
    registry::entry::Entry,
};

/// `lookout add`: registers processes. If the daemon refuses a process, prints the entries that
/// were added before it.
pub(in crate::cli) async fn add(args: AddArgs, out: &mut Output) -> Result<Exit, Failure> {
    let daemon = connect_to_daemon().await?;
    let pids = match &args.pattern {
        Some(pattern) => find::find_matching(pattern)?.into_iter().map(|found| found.pid).collect(),
        None => args.pids,
    };
    if pids.is_empty() {
        return Err(Failure::Missing("no process matches".to_owned()));
    }
    let is_search = args.pattern.is_some();
    let mut added = Vec::new();
    let (mut refused, mut failed) = (None, None);
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
            // A process that matched the pattern may have exited since, or be registered already.
            // The other matching processes are still added.
            Err(error) if is_search && error.is_answer() => {
                if !args.display.quiet {
                    print_message(&error.to_string());
                }
                refused = refused.or(Some(error));
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let style = Style::for_stdout(args.display);
    if !added.is_empty() {
        out.write(&render::entries::list(&added, args.output, style))?;
    }
    if let Some(error) = failed {
        out.flush()?;
        return Err(error.into());
    }
    match refused.filter(|_| added.is_empty()).map(Failure::from) {
        Some(refused) if args.display.quiet => Err(refused),
        // Each refusal has been printed above.
        Some(refused) => Ok(refused.exit_status()),
        None => Ok(Exit::Ok),
    }
}

/// `lookout list`: prints the entries that match.
pub(in crate::cli) async fn list(args: ListArgs, out: &mut Output) -> Result<Exit, Failure> {
    let entries = connect_to_daemon().await?.list(&args.select.selector(Vec::new())).await?;
    let style = Style::for_stdout(args.display);
    out.write(&render::entries::list(&entries, args.output, style))?;
    Ok(Exit::Ok)
}

/// `lookout tag`, `untag`, `group` and `ungroup`: changes the tags or groups of an entry. `set`
/// puts them into the request.
pub(in crate::cli) async fn edit_labels(
    id: u64,
    set: impl FnOnce(&mut UpdateRequest),
) -> Result<Exit, Failure> {
    let mut request = UpdateRequest { selector: single_entry(id), ..Default::default() };
    set(&mut request);
    connect_to_daemon().await?.update(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout rename`: sets or removes the name of an entry.
pub(in crate::cli) async fn rename(args: RenameArgs) -> Result<Exit, Failure> {
    let request = UpdateRequest {
        selector: single_entry(args.id),
        name: Some(args.name),
        ..Default::default()
    };
    connect_to_daemon().await?.update(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout rm`: removes entries.
pub(in crate::cli) async fn rm(args: RmArgs) -> Result<Exit, Failure> {
    let selector = Some(args.select.selector(args.ids)).into();
    let request = UpdateRequest { selector, all: args.all, remove: true, ..Default::default() };
    connect_to_daemon().await?.update(&request).await?;
    Ok(Exit::Ok)
}

/// `lookout kill`: sends a signal to the processes of entries, or of an exec. Names the descendants
/// that it has left.
pub(in crate::cli) async fn kill(args: KillArgs) -> Result<Exit, Failure> {
    let exec = args.exec_id.map(|exec_id| ContainerExec {
        namespace: args.namespace.unwrap_or_default(),
        container_id: args.container.unwrap_or_default(),
        exec_id,
        ..Default::default()
    });
    let request = KillRequest {
        selector: Some(args.select.selector(args.ids)).into(),
        all: args.all,
        signal: args.signal,
        tree: args.tree,
        all_descendants: args.all_descendants,
        exec: exec.into(),
        ..Default::default()
    };
    let answer = connect_to_daemon().await?.kill(&request).await?;
    for left in answer.left {
        let process = left.process.unwrap_or_default();
        let command = printable::command_line(process.args.iter().map(Vec::as_slice));
        print_message(&format!(
            "left: process {} of container {} ({command}), a descendant that has been given \
             another parent: --all-descendants signals it too",
            process.pid,
            left.container.get_or_default().id,
        ));
    }
    Ok(Exit::Ok)
}

/// `lookout reset`: removes all entries.
pub(in crate::cli) async fn reset(args: ResetArgs) -> Result<Exit, Failure> {
    let request = ResetRequest { confirm: args.confirm, ..Default::default() };
    connect_to_daemon().await?.reset(&request).await?;
    Ok(Exit::Ok)
}

/// The selector that selects only the entry `id`.
fn single_entry(id: u64) -> protobuf::MessageField<Selector> {
    Some(Selector { ids: vec![id], ..Default::default() }).into()
}
