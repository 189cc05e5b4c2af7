//! Reads the runtime's log (`--log-format json`), which has one JSON object per line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::Deserialize;

/// The largest number of bytes of a log that are read for one failed call. The rest of a longer log
/// is ignored, so that a runtime cannot make the shim read without end.
const LOG_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The current size of the log in bytes: the offset at which the lines of the next call begin. 0 if
/// there is no log file.
pub(super) fn position(log: &Path) -> u64 {
    log.metadata().map_or(0, |meta| meta.len())
}

/// The last error that was logged at or after the offset `from`. `None` if no error was logged
/// there.
///
/// Lines that are not JSON objects are ignored.
pub(super) fn last_error(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut last = None;
    for line in BufReader::new(file.take(LOG_MAX)).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<LogLine>(&line?) else { continue };
        if line.level == "error" || line.level == "fatal" {
            last = Some(line.msg.trim().to_owned());
        }
    }
    Ok(last)
}
