//! Replaces secrets in arguments before an event leaves the observer thread.
//!
//! The redactor is called for the arguments of each reported image. The journal, the stream,
//! containerd's bus and the command line see only its output. Arguments without a secret are
//! returned unchanged.
//!
//! [`REDACTED`] replaces a secret and nothing else: names, users and hosts stay, so that a reader
//! sees what was removed. A secret is found by what is around it, or by its form:
//!
//! ```text
//!  arguments ─► command   the tool, its options and words     tools, tools/*.txt
//!                  │      script   sh -c "…": its words are read as arguments
//!                  ▼
//!                scan     assignments, JSON, SQL, headers     names: what a name's value is
//!                  │      URLs                                value: what a value can be
//!                  ▼      tokens, private keys                url, tokens
//!                strict   random text, with `redact_mode = strict`
//! ```
//!
//! The operator's own `patterns` are added. Every part reads the bytes forward and jumps over the
//! secrets that it has found, so the time is linear in the length of the arguments; `tests`
//! compares the worst arguments with ordinary ones. The rules are tables in read-only memory, which
//! all shims share: a redactor without patterns owns nothing.
//!
//! The redactor works on bytes and on truncated arguments. It never sees the environment, because
//! no source reads it. Redaction is best effort: a secret without a recognisable form, name or
//! position, such as a bare word after an unknown option, stays.

mod command;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod headers;
mod names;
mod patterns;
mod scan;
mod script;
mod shell;
mod strict;
mod text;
mod token_formats;
mod tools;
mod url;
mod value;

#[cfg(test)]
mod tests;

use std::ops::Range;

use self::{
    command::Command,
    patterns::{PATTERNS_MAX, Pattern},
    text::{Decoded, Text},
};
use crate::{config::RedactMode, model::Args};

/// The text that replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// Replaces secrets in arguments, by built-in rules and the operator's patterns.
#[derive(Debug, Default)]
pub struct Redactor {
    mode: RedactMode,
    operator: Vec<Pattern>,
}

/// Why an operator's patterns cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedactError {
    /// A pattern is not a regular expression, or compiles to more than 64 KiB.
    #[error("failed to compile the redaction pattern {pattern:?}")]
    Pattern {
        /// The pattern, as the operator configured it.
        pattern: String,
        /// The error of the regular expression compiler.
        #[source]
        source: regex::Error,
    },
    /// There are more patterns than 64. Only the first 64 are used.
    #[error(
        "{count} redaction patterns are configured, but only the first {PATTERNS_MAX} are used"
    )]
    TooMany {
        /// The number of configured patterns.
        count: usize,
    },
}

impl Redactor {
    /// Creates a redactor with the built-in rules and the operator's patterns. Patterns are regular
    /// expressions of the crate `regex` without Unicode classes. A pattern is matched against the
    /// bytes of each argument separately, or, if it contains `\x00`, against all arguments, each
    /// with a NUL after it: `-a\x00([^\x00]+)`. If a pattern has groups, the first group is
    /// replaced, otherwise the whole match.
    ///
    /// If the arguments of a process have more than 256 matches, or the patterns would be applied
    /// more than 4096 times, the arguments from there on are replaced as a whole.
    ///
    /// Without operator patterns nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`RedactError`] for the first pattern that cannot be used, or if there are too many.
    pub fn new(mode: RedactMode, operator_patterns: &[String]) -> Result<Self, RedactError> {
        let (redactor, errors) = Self::of_valid(mode, operator_patterns);
        errors.into_iter().next().map_or(Ok(redactor), Err)
    }

    /// As [`new`](Self::new), but uses the valid patterns and returns the errors of the others. A
    /// mistake in one pattern must not disable redaction by the rest.
    #[must_use]
    pub fn of_valid(mode: RedactMode, operator_patterns: &[String]) -> (Self, Vec<RedactError>) {
        let mut errors = Vec::new();
        if operator_patterns.len() > PATTERNS_MAX {
            errors.push(RedactError::TooMany { count: operator_patterns.len() });
        }
        let mut operator: Vec<Pattern> = Vec::new();
        for pattern in operator_patterns.iter().take(PATTERNS_MAX) {
            // A pattern that is listed twice would only cost time.
            if operator.iter().any(|known| known.is(pattern)) {
                continue;
            }
            match Pattern::compile(pattern) {
                Ok(compiled) => operator.push(compiled),
                Err(error) => errors.push(error),
            }
        }
        (Self { mode, operator }, errors)
    }

    /// Returns the arguments with their secrets replaced. `total_bytes` and `count` keep their
    /// values, which describe the arguments of the process and not the output.
    #[must_use]
    pub fn redact(&self, args: Args) -> Args {
        let secrets = self.secrets(&args.bytes);
        if secrets.is_empty() {
            return args;
        }
        let mut bytes = Vec::with_capacity(args.bytes.len());
        let mut from = 0;
        for secret in secrets {
            // Only the values go: the names of options and all else stay readable.
            bytes.extend_from_slice(&args.bytes[from..secret.start]);
            bytes.extend_from_slice(REDACTED.as_bytes());
            from = secret.end;
        }
        bytes.extend_from_slice(&args.bytes[from..]);
        Args { bytes: bytes.into(), redacted: true, ..args }
    }

    /// The byte ranges of the secrets: sorted, disjoint, not empty, each within one argument.
    fn secrets(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut search = Search {
            found: Vec::new(),
            strict: self.mode == RedactMode::Strict,
            after_key_id: false,
            truncated: false,
        };
        let mut command = Command::new(0);
        let mut decoded = Decoded::default();
        let mut start = 0;
        for arg in bytes.split(|byte| *byte == 0) {
            // The last argument has no NUL after it only if it was truncated.
            search.truncated = start + arg.len() == bytes.len();
            let text = Text::captured(arg, start);
            let is_decoded = text::has_escapes(arg) && text::decode_escapes(text, &mut decoded);
            search.read_word(&mut command, if is_decoded { decoded.text() } else { text });
            start += arg.len() + 1;
        }
        if !self.operator.is_empty() {
            patterns::find_matches(&self.operator, bytes, &mut search.found);
        }
        disjoint(search.found)
    }
}

/// The state of a search in the arguments of one process.
struct Search {
    found: Vec<Range<usize>>,
    strict: bool,
    /// Whether the id of an AWS key was found. Its secret key may follow, which has no prefix to
    /// find it by.
    after_key_id: bool,
    /// Whether the current argument may have been cut at its end.
    truncated: bool,
}

impl Search {
    /// Marks a part of a text as a secret, to be replaced.
    fn hide(&mut self, text: &Text<'_>, range: Range<usize>) {
        if !range.is_empty() {
            self.found.push(text.captured_range(range));
        }
    }

    /// Marks a whole text as a secret.
    fn hide_all(&mut self, text: &Text<'_>) {
        self.hide(text, 0..text.bytes.len());
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn disjoint(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    // Rules overlap: `--token=ghp_…` is both an assignment and a token.
    ranges.dedup_by(|next, kept| {
        let joins = next.start <= kept.end;
        if joins {
            kept.end = kept.end.max(next.end);
        }
        joins
    });
    ranges
}
