//! The operator's own patterns: regular expressions, with a bound on what they cost.
//!
//! A pattern may come from a container's annotation, so neither its memory nor its time may be
//! without a bound. The engine of the crate `regex` needs a time that is the product of the lengths
//! of the compiled pattern and of the text; both are limited, and so is the number of matches.
//! Where a limit is reached, the rest of the arguments is hidden: a limit must not show a secret.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use super::RedactError;

/// How many patterns an operator may configure.
pub(super) const PATTERNS_MAX: usize = 64;

/// The memory that a compiled pattern may take, in bytes.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// How many matches of all patterns are replaced one by one in the arguments of one process.
const MATCHES_MAX: usize = 256;

/// How often patterns are applied to arguments, for one process: 64 patterns and 64 arguments, or
/// fewer patterns and more arguments. Each application costs some time whatever the length is.
const RUNS_MAX: usize = 4096;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Whether it is matched against all arguments together, each with a NUL after it.
    spans: bool,
}

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Self, RedactError> {
        let regex = RegexBuilder::new(pattern)
            // Arguments are bytes, and may be invalid UTF-8.
            .unicode(false)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|source| RedactError::Pattern { pattern: pattern.to_owned(), source })?;
        // Only a pattern that names the NUL can mean more than one argument. Others keep to one,
        // so that `\S+` and `$` end with it.
        let spans = pattern.contains(r"\x00") || pattern.contains(r"\0");
        Ok(Self { regex, spans })
    }

    pub(super) fn is(&self, pattern: &str) -> bool {
        self.regex.as_str() == pattern
    }
}

/// Adds the parts of the arguments that the patterns match.
pub(super) fn find(patterns: &[Pattern], bytes: &[u8], found: &mut Vec<Range<usize>>) {
    let mut left = Left { matches: MATCHES_MAX, runs: RUNS_MAX };
    for pattern in patterns.iter().filter(|pattern| pattern.spans) {
        let mut matched = Vec::new();
        if !left.run(&pattern.regex, bytes, 0, &mut matched) {
            return found.extend(arguments(bytes, 0));
        }
        for range in matched {
            // The NUL between two arguments stays.
            let inside = arguments(&bytes[range.clone()], range.start);
            found.extend(inside);
        }
    }
    for range in arguments(bytes, 0) {
        for pattern in patterns.iter().filter(|pattern| !pattern.spans) {
            let arg = &bytes[range.clone()];
            if !left.run(&pattern.regex, arg, range.start, found) {
                return found.extend(arguments(&bytes[range.start..], range.start));
            }
        }
    }
}

/// What may still be done for the arguments of one process.
struct Left {
    matches: usize,
    runs: usize,
}

impl Left {
    /// Adds what a pattern matches in `text`, which begins at `start`: its first group, or all if
    /// it has none. Returns whether nothing was left out.
    fn run(
        &mut self,
        regex: &Regex,
        text: &[u8],
        start: usize,
        found: &mut Vec<Range<usize>>,
    ) -> bool {
        if self.runs == 0 {
            return false;
        }
        self.runs -= 1;
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

/// The arguments in `bytes`, which begin at `start`.
fn arguments(bytes: &[u8], start: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = start;
    bytes.split(|byte| *byte == 0).map(move |arg| {
        let range = at..at + arg.len();
        at = range.end + 1;
        range
    })
}
