//! The operator's own patterns: regular expressions, with a bound on what they cost.
//!
//! A pattern may come from a container's annotation, so neither its memory nor its time may be
//! without a bound. The engine of the crate `regex` needs a time that is the product of the lengths
//! of the compiled pattern and of the text; both are limited, and so is the number of matches.
//! Where a limit is reached, the rest of the arguments is hidden: a limit must not show a secret.

use std::ops::Range;

use regex::bytes::Regex;

use super::RedactError;
use crate::config::compile_pattern;

/// How many patterns an operator may configure.
pub(super) const PATTERNS_MAX: usize = 64;

/// How many matches of all patterns together are replaced one by one in the arguments of one
/// process. At a further match, the rest of the arguments is replaced as a whole.
const MATCHES_MAX: usize = 256;

/// How often a pattern is applied to an argument, for one process: 64 patterns and 64 arguments, or
/// fewer patterns and more arguments. Beyond that, the rest of the arguments is replaced as a
/// whole. Each application costs some time, however short the argument is.
const APPLICATIONS_MAX: usize = 4096;

/// A compiled pattern of the operator.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Whether the pattern is matched against all arguments together, each with a NUL after it, and
    /// not against each argument.
    spans_arguments: bool,
}

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Self, RedactError> {
        let regex = compile_pattern(pattern)
            .map_err(|source| RedactError::Pattern { pattern: pattern.to_owned(), source })?;
        // Only a pattern that contains the NUL can match across arguments. Any other is applied to
        // one argument at a time, so that `\S+` and `$` end with the argument.
        let spans_arguments = pattern.contains(r"\x00") || pattern.contains(r"\0");
        Ok(Self { regex, spans_arguments })
    }

    pub(super) fn is(&self, pattern: &str) -> bool {
        self.regex.as_str() == pattern
    }
}

/// Adds the ranges of the arguments that the patterns match to `found`.
pub(super) fn find_matches(patterns: &[Pattern], bytes: &[u8], found: &mut Vec<Range<usize>>) {
    let mut left = PatternBudget { matches: MATCHES_MAX, applications: APPLICATIONS_MAX };
    for pattern in patterns.iter().filter(|pattern| pattern.spans_arguments) {
        let mut matched = Vec::new();
        if !left.apply_pattern(&pattern.regex, bytes, 0, &mut matched) {
            return found.extend(arguments(bytes, 0));
        }
        for range in matched {
            // The NUL between two arguments stays.
            let inside = arguments(&bytes[range.clone()], range.start);
            found.extend(inside);
        }
    }
    for range in arguments(bytes, 0) {
        for pattern in patterns.iter().filter(|pattern| !pattern.spans_arguments) {
            let arg = &bytes[range.clone()];
            if !left.apply_pattern(&pattern.regex, arg, range.start, found) {
                return found.extend(arguments(&bytes[range.start..], range.start));
            }
        }
    }
}

/// The matches and applications of patterns that are left for the arguments of one process.
struct PatternBudget {
    matches: usize,
    applications: usize,
}

impl PatternBudget {
    /// Applies a pattern to `text`, of which the first byte has the position `start`, and adds the
    /// ranges of the matches: the first group, or the whole match if the pattern has no groups.
    /// Returns `false` if a limit was reached, so that matches may be missing.
    fn apply_pattern(
        &mut self,
        regex: &Regex,
        text: &[u8],
        start: usize,
        found: &mut Vec<Range<usize>>,
    ) -> bool {
        if self.applications == 0 {
            return false;
        }
        self.applications -= 1;
        for groups in regex.captures_iter(text) {
            if self.matches == 0 {
                return false;
            }
            self.matches -= 1;
            let part = groups.get(1).or_else(|| groups.get(0));
            found.extend(part.map(|part| part.start() + start..part.end() + start));
        }
        true
    }
}

/// The range of each argument in `bytes`, of which the first byte has the position `start`.
fn arguments(bytes: &[u8], start: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = start;
    bytes.split(|byte| *byte == 0).map(move |arg| {
        let range = at..at + arg.len();
        at = range.end + 1;
        range
    })
}
