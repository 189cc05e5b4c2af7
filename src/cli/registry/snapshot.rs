//! `lookout snapshot`: saves the registry to a file as JSON, and loads entries from such a file.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::connect_to_daemon;
use crate::cli::args::registry::SnapshotCommand;
use crate::{
    api::{self, LoadRequest, Selector},
    cli::{
        exit::{Exit, Failure},
        output::Output,
    },
    client::json,
    registry::entry::Entry,
};

/// The version of the format of a snapshot file.
const SNAPSHOT_SCHEMA: u32 = 1;

/// The number of entries in one `Load` request.
const ENTRIES_PER_REQUEST: usize = 500;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    schema: u32,
    entries: Vec<Entry>,
}

/// `lookout snapshot save` and `lookout snapshot load`.
pub(in crate::cli) async fn snapshot(
    command: SnapshotCommand,
    out: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        SnapshotCommand::Save { file } => save_snapshot(&file, out).await,
        SnapshotCommand::Load { file } => load_snapshot(&file, out).await,
    }
}

async fn save_snapshot(file: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let entries = connect_to_daemon().await?.list(&Selector::default()).await?;
    let text = json::to_line(&Snapshot { schema: SNAPSHOT_SCHEMA, entries }) + "\n";
    if file == Path::new("-") {
        out.write(&text)?;
        return Ok(Exit::Ok);
    }
    // The new file is written under a temporary name and renamed, so that a failed save leaves an
    // earlier snapshot intact.
    let new = file.with_added_extension("new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, file));
    written.map_err(|error| file_failure(file, "write", error))?;
    Ok(Exit::Ok)
}

async fn load_snapshot(file: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let read = match file == Path::new("-") {
        true => io::stdin().read_to_end(&mut text).map(drop),
        false => fs::read(file).map(|read| text = read),
    };
    read.map_err(|error| file_failure(file, "read", error))?;
    let snapshot: Snapshot =
        serde_json::from_slice(&text).map_err(|error| file_failure(file, "parse", error.into()))?;
    if snapshot.schema != SNAPSHOT_SCHEMA {
        let schema = snapshot.schema;
        return Err(Failure::Other(anyhow::anyhow!(
            "{}: version {schema} of the snapshot format is not supported",
            file.display()
        )));
    }
    let daemon = connect_to_daemon().await?;
    for entries in snapshot.entries.chunks(ENTRIES_PER_REQUEST) {
        let request = LoadRequest {
            entries: entries.iter().map(api::Entry::from).collect(),
            ..Default::default()
        };
        for id in daemon.load(&request).await?.ids {
            out.write(&format!("{id}\n"))?;
        }
    }
    Ok(Exit::Ok)
}

fn file_failure(file: &Path, action: &str, error: io::Error) -> Failure {
    Failure::Other(
        anyhow::Error::new(error).context(format!("failed to {action} {}", file.display())),
    )
}
