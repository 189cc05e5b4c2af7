//! Secrets in arguments: replaced before an event leaves the observer's thread.
//!
//! Called for each exec that is told; the ring journal, the stream, containerd's bus and the
//! command line see only what comes out. Arguments that have nothing suspicious are read once and
//! come back as they are, with nothing allocated.
//!
//! What is replaced, by [`REDACTED`]; names stay, so that a person sees that something was there:
//!
//! * the value of an option whose name is or ends in `password`, `passwd`, `passphrase`, `secret`,
//!   `token`, `api-key`, `access-key` … (`-` and `_` alike, any case): `--db-password=X`, `--token
//!   X`, the `-pX` of `mysql` and its kin, the `user:pass` of `curl -u`
//! * the value of an assignment to such a name, also within an argument: `PGPASSWORD=X`,
//!   `sh -c 'API_KEY=X run'`, `aws_secret_access_key = X`, `"password": "X"`
//! * the credentials of an `Authorization` header, and those after `Bearer` wherever it is
//! * the user information's password in a URL: `scheme://user:X@host`
//! * what is a secret by its own form: AWS key ids, GitHub, GitLab, Slack and Stripe tokens, npm
//!   and Google keys, JSON Web Tokens, PEM private keys
//! * what an operator's own patterns match, or their first group where they have one
//!
//! It works on bytes, on arguments that were cut, and never sees the environment, which nobody
//! reads. It is no proof: a secret that looks like nothing (a bare word) stays.

mod names;
mod shapes;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use crate::model::Args;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// How many patterns an operator may have, and how much memory the compiled form of each may take.
const PATTERNS_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// Takes secrets out of arguments.
#[derive(Debug, Default)]
pub struct Redactor {
    operator: Vec<Regex>,
}

/// Why an operator's patterns cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedactError {
    /// One is no regular expression, or compiles to more than 256 KiB.
    #[error("failed to compile the redaction pattern {pattern:?}")]
    Pattern {
        /// Which.
        pattern: String,
        /// Why.
        #[source]
        source: regex::Error,
    },
    /// There are too many; the first of them are used.
    #[error("{count} redaction patterns are more than {PATTERNS_MAX}: the rest is not used")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

impl Redactor {
    /// With the built-in patterns and the operator's: regular expressions as the crate `regex` has
    /// them, without Unicode classes, each matched against each argument by itself, in any bytes.
    /// Where one has a group, its first group is replaced, else all that matches.
    ///
    /// Without operator patterns nothing is allocated.
    ///
    /// # Errors
    ///
    /// [`RedactError`], which names the pattern.
    pub fn new(operator_patterns: &[String]) -> Result<Self, RedactError> {
        let (redactor, refused) = Self::of_valid(operator_patterns);
        refused.into_iter().next().map_or(Ok(redactor), Err)
    }

    /// As [`new`](Self::new), with those of the patterns that can be used, and why the others
    /// cannot.
    #[must_use]
    pub fn of_valid(operator_patterns: &[String]) -> (Self, Vec<RedactError>) {
        let mut refused = Vec::new();
        if operator_patterns.len() > PATTERNS_MAX {
            refused.push(RedactError::TooMany { count: operator_patterns.len() });
        }
        let compiled = operator_patterns.iter().take(PATTERNS_MAX).map(|pattern| compile(pattern));
        let operator = compiled
            .filter_map(|compiled| compiled.map_err(|error| refused.push(error)).ok())
            .collect();
        (Self { operator }, refused)
    }

    /// The same arguments without secrets. `total_bytes` and `count` stay what they were: true of
    /// the process.
    #[must_use]
    pub fn redact(&self, args: Args) -> Args {
        if !shapes::suspicious(&args.bytes) && self.operator.is_empty() {
            return args;
        }
        let secrets = self.secrets(&args.bytes);
        if secrets.is_empty() {
            return args;
        }
        let mut bytes = Vec::with_capacity(args.bytes.len());
        let mut from = 0;
        for secret in secrets {
            bytes.extend_from_slice(&args.bytes[from..secret.start]);
            bytes.extend_from_slice(REDACTED.as_bytes());
            from = secret.end;
        }
        bytes.extend_from_slice(&args.bytes[from..]);
        Args { bytes: bytes.into(), redacted: true, ..args }
    }

    /// Where the secrets are: in order, apart, each within one argument, none empty.
    fn secrets(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut words = words::Words::default();
        let mut start = 0;
        for arg in bytes.split(|byte| *byte == 0) {
            let first = found.len();
            words = words.find(arg, &mut found);
            shapes::find(arg, start + arg.len() == bytes.len(), &mut found);
            for pattern in &self.operator {
                for groups in pattern.captures_iter(arg) {
                    let part = groups.get(1).or_else(|| groups.get(0));
                    found.extend(part.map(|part| part.range()));
                }
            }
            for range in &mut found[first..] {
                *range = range.start + start..range.end + start;
            }
            start += arg.len() + 1;
        }
        apart(found)
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn apart(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| (range.start, range.end));
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
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|source| RedactError::Pattern { pattern: pattern.to_owned(), source })
}
