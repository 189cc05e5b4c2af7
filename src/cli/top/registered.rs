//! Asks the daemon for the registered processes and their descendants.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::mpsc::Sender, time::sleep};

use super::data::{Change, Note};
use crate::{
    api::{Process, SampleRequest, Selector, Usage},
    client::{Daemon, DaemonError, daemon::socket_path},
    model::chain,
    platform::process::lineage,
    registry::entry::Entry,
};

/// Sends the processes that a selector selects, at an interval. Never returns.
pub(super) async fn follow(selector: Selector, interval: Duration, changes: Sender<Change>) {
    loop {
        let (processes, note) = match ask(&selector).await {
            Ok(processes) => (processes, None),
            Err(error) => (Vec::new(), Some(chain(&error))),
        };
        // Fails if the command ends.
        let _ = changes.send(Change::Registered(processes)).await;
        let _ = changes.send(Change::Note(Note::Registry, note)).await;
        sleep(interval).await;
    }
}

async fn ask(selector: &Selector) -> Result<Vec<Process>, DaemonError> {
    let daemon = Daemon::connect(&socket_path()).await?;
    let request = SampleRequest {
        selector: Some(selector.clone()).into(),
        tree: true,
        ..SampleRequest::default()
    };
    let (entries, usages) = tokio::join!(daemon.list(selector), daemon.sample(&request));
    let entries: HashMap<u64, Entry> =
        entries?.into_iter().map(|entry| (entry.id, entry)).collect();
    Ok(usages?.into_iter().map(|usage| process(usage, &entries)).collect())
}

/// A process that lives, as shims describe those of containers.
fn process(usage: Usage, entries: &HashMap<u64, Entry>) -> Process {
    let parent = lineage(usage.pid).and_then(|lineage| lineage.parent);
    let mut process = Process {
        pid: usage.pid,
        parent_pid: parent.map_or(0, |parent| parent.pid),
        entity_id: usage.entity_id,
        created_ns: usage.created_ns,
        origin: "descendant".to_owned(),
        // Redacted by the daemon; of a descendant it has only the whole line.
        args: vec![usage.command.into_bytes()],
        ..Process::default()
    };
    if let Some(entry) = entries.get(&usage.id) {
        let of = &entry.process;
        process.origin = match &entry.name {
            Some(name) => format!("registered as {} ({name})", entry.id),
            None => format!("registered as {}", entry.id),
        };
        process.args = of.command_args.iter().map(|arg| arg.clone().into_bytes()).collect();
        process.args_truncated = of.args_truncated;
        process.executable = Some(of.executable.clone().into_bytes()).filter(|it| !it.is_empty());
        process.uid = of.uid;
    }
    process
}
