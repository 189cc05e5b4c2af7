//! `lookout snapshot`: saves the registry as JSON, and loads it.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::connect;
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

/// The version of the file format.
const SCHEMA: u32 = 1;

/// The number of entries in one `Load` request.
const BATCH: usize = 500;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    schema: u32,
    entries: Vec<Entry>,
}

/// `lookout snapshot save|load`.
pub(in crate::cli) async fn snapshot(
    command: SnapshotCommand,
    out: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        SnapshotCommand::Save { file } => save(&file, out).await,
        SnapshotCommand::Load { file } => load(&file, out).await,
    }
}

async fn save(file: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let entries = connect().await?.list(&Selector::default()).await?;
    let text = json::line(&Snapshot { schema: SCHEMA, entries }) + "\n";
    if file == Path::new("-") {
        out.write(&text)?;
        return Ok(Exit::Ok);
    }
    // Write and rename, so that a failed save leaves an earlier file intact.
    let new = file.with_added_extension("new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, file));
    written.map_err(|error| failed(file, "write", error))?;
    Ok(Exit::Ok)
}

async fn load(file: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let read = match file == Path::new("-") {
        true => io::stdin().read_to_end(&mut text).map(drop),
        false => fs::read(file).map(|read| text = read),
    };
    read.map_err(|error| failed(file, "read", error))?;
    let snapshot: Snapshot =
        serde_json::from_slice(&text).map_err(|error| failed(file, "parse", error.into()))?;
    if snapshot.schema != SCHEMA {
        let schema = snapshot.schema;
        return Err(Failure::Other(anyhow::anyhow!(
            "{}: version {schema} of the snapshot format is not supported",
            file.display()
        )));
    }
    let daemon = connect().await?;
    for entries in snapshot.entries.chunks(BATCH) {
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

fn failed(file: &Path, action: &str, error: io::Error) -> Failure {
    Failure::Other(
        anyhow::Error::new(error).context(format!("failed to {action} {}", file.display())),
    )
}
