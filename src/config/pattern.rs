//! Compiles the patterns of the key `redact`.

use regex::bytes::{Regex, RegexBuilder};

/// The memory that a compiled pattern may take, in bytes.
const COMPILED_BYTES_MAX: usize = 64 << 10;

/// Compiles a pattern. It matches bytes, because arguments may be invalid UTF-8.
///
/// # Errors
///
/// The error of the regular expression compiler, also if the compiled pattern is larger than
/// 64 KiB.
pub fn compile_pattern(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
}

/// What is wrong with a pattern, in one line. The error of the crate shows the pattern and points
/// into it, in several lines, of which the last one has the reason.
pub(super) fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}
