//! Reads the runtime's log (`--log-format json`), which has one JSON object per line.

use std::{io, path::Path};

use serde::Deserialize;

use crate::sys::regular_file;

/// The number of bytes at the end of a log that are read for a failed call, so that a runtime
/// cannot make the shim read without end. The last error is at the end.
const LOG_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The last error in a log. `None` if no error was logged.
///
/// Lines that are not JSON objects are ignored.
pub(super) fn last_error(log: &Path) -> io::Result<Option<String>> {
    Ok(last_error_in(&regular_file::read_end(log, LOG_MAX)?))
}

/// As [`last_error`], in the text of the log.
pub(super) fn last_error_in(text: &[u8]) -> Option<String> {
    let lines = text.rsplit(|byte| *byte == b'\n');
    let mut parsed = lines.filter_map(|line| serde_json::from_slice::<LogLine>(line).ok());
    let error = parsed.find(|line| line.level == "error" || line.level == "fatal");
    error.map(|line| line.msg.trim().to_owned())
}
