//! The runtime's own log (`--log-format json`): one object a line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::Deserialize;

/// How much of a log is read for one failure. A runtime that writes more is cut, not obeyed.
const LOG_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The size of the log now: what a call writes begins there. 0 where there is none.
pub(super) fn position(log: &Path) -> u64 {
    log.metadata().map_or(0, |meta| meta.len())
}

/// The last error that was logged at or after byte `from`, if any.
///
/// Lines that are no JSON are passed over: what else the runtime printed there says less.
pub(super) fn last_error(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut last = None;
    for line in BufReader::new(file.take(LOG_MAX)).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        if line.level == "error" || line.level == "fatal" {
            last = Some(line.msg.trim().to_owned());
        }
    }
    Ok(last)
}
