//! Replaces secrets in arguments before an event leaves the observer thread.
//!
//! The redactor is called for the arguments of each reported image. The journal, the stream,
//! containerd's bus and the command line see only its output. Arguments without anything suspicious
//! are read once and returned unchanged, without an allocation.
//!
//! [`REDACTED`] replaces these secrets; names stay, so that a reader sees what was removed:
//!
//! * the value of an option with a name that is or ends in `password`, `passwd`, `passphrase`,
//!   `secret`, `token`, `api-key`, `access-key` … (`-` and `_` are equal, the case is ignored):
//!   `--db-password=X`, `--token X`, the `-pX` of the `mysql` commands, the `user:pass` of `curl
//!   -u`
//! * the value of an assignment to such a name, also within an argument: `PGPASSWORD=X`,
//!   `sh -c 'API_KEY=X run'`, `aws_secret_access_key = X`, `"password": "X"`
//! * the credentials of an `Authorization` header, and those after `Bearer` anywhere
//! * the password in the user information of a URL: `scheme://user:X@host`
//! * secrets with a recognisable form: AWS key ids, GitHub, GitLab, Slack and Stripe tokens, npm
//!   and Google keys, JSON Web Tokens, PEM private keys
//! * matches of the operator's own patterns, or their first group if they have one
//!
//! The redactor works on bytes and on truncated arguments. It never sees the environment, because
//! no source reads it. Redaction is best effort: a secret without a recognisable form or name, such
//! as a bare word, stays.

mod names;
mod shapes;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use crate::model::Args;

/// The text that replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// How many patterns an operator may configure.
const PATTERNS_MAX: usize = 64;

/// The memory that a compiled pattern may take, in bytes.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// Replaces secrets in arguments, by built-in rules and the operator's patterns.
#[derive(Debug, Default)]
pub struct Redactor {
    operator: Vec<Regex>,
}

/// Why an operator's patterns cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedactError {
    /// A pattern is not a regular expression, or compiles to more than 256 KiB.
    #[error("failed to compile the redaction pattern {pattern:?}")]
    Pattern {
        /// The pattern, as the operator configured it.
        pattern: String,
        /// The error of the regular expression compiler.
        #[source]
        source: regex::Error,
    },
    /// There are too many patterns. Only the first ones are used.
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
    /// expressions of the crate `regex` without Unicode classes. Each pattern is matched against
    /// the bytes of each argument separately. If it has groups, the first group is replaced,
    /// otherwise the whole match.
    ///
    /// Without operator patterns nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`RedactError`] for the first pattern that cannot be used, or if there are too many.
    pub fn new(operator_patterns: &[String]) -> Result<Self, RedactError> {
        let (redactor, errors) = Self::of_valid(operator_patterns);
        errors.into_iter().next().map_or(Ok(redactor), Err)
    }

    /// As [`new`](Self::new), but uses the valid patterns and returns the errors of the others. A
    /// mistake in one pattern must not disable redaction by the rest.
    #[must_use]
    pub fn of_valid(operator_patterns: &[String]) -> (Self, Vec<RedactError>) {
        let mut errors = Vec::new();
        if operator_patterns.len() > PATTERNS_MAX {
            errors.push(RedactError::TooMany { count: operator_patterns.len() });
        }
        let compiled = operator_patterns.iter().take(PATTERNS_MAX).map(|pattern| compile(pattern));
        let operator = compiled
            .filter_map(|compiled| compiled.map_err(|error| errors.push(error)).ok())
            .collect();
        (Self { operator }, errors)
    }

    /// Returns the arguments with their secrets replaced. `total_bytes` and `count` keep their
    /// values, which describe the arguments of the process and not the output.
    #[must_use]
    pub fn redact(&self, args: Args) -> Args {
        // Most arguments need only this one read of their bytes, and no allocation.
        if !shapes::is_suspicious(&args.bytes) && self.operator.is_empty() {
            return args;
        }
        let secrets = self.secrets(&args.bytes);
        if secrets.is_empty() {
            return args;
        }
        let mut bytes = Vec::with_capacity(args.bytes.len());
        let mut from = 0;
        for secret in secrets {
            // Names and everything else between the secrets are copied unchanged.
            bytes.extend_from_slice(&args.bytes[from..secret.start]);
            bytes.extend_from_slice(REDACTED.as_bytes());
            from = secret.end;
        }
        bytes.extend_from_slice(&args.bytes[from..]);
        Args { bytes: bytes.into(), redacted: true, ..args }
    }

    /// The byte ranges of the secrets: sorted, disjoint, not empty, each within one argument.
    fn secrets(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut words = words::Words::default();
        let mut start = 0;
        for arg in bytes.split(|byte| *byte == 0) {
            let first = found.len();
            words = words.find(arg, &mut found);
            // The last argument has no NUL after it only if it was truncated.
            shapes::find(arg, start + arg.len() == bytes.len(), &mut found);
            for pattern in &self.operator {
                for groups in pattern.captures_iter(arg) {
                    let part = groups.get(1).or_else(|| groups.get(0));
                    found.extend(part.map(|part| part.range()));
                }
            }
            // The rules report positions within the argument.
            for range in &mut found[first..] {
                *range = range.start + start..range.end + start;
            }
            start += arg.len() + 1;
        }
        disjoint(found)
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn disjoint(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| (range.start, range.end));
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

fn compile(pattern: &str) -> Result<Regex, RedactError> {
    RegexBuilder::new(pattern)
        // Arguments are bytes, and may be invalid UTF-8.
        .unicode(false)
        // A container's annotation can add patterns, so their memory must be bounded.
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|source| RedactError::Pattern { pattern: pattern.to_owned(), source })
}
