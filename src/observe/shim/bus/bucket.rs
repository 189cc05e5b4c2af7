//! A token bucket.

use super::Rate;

/// A second, in nanoseconds; also what one token weighs, so that no token is lost to rounding.
const SECOND: u64 = 1_000_000_000;

/// So many events at once, and so many a second.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    /// In billionths of a token.
    full: u64,
    level: u64,
    filled_ns: Option<u64>,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate) -> Self {
        let full = u64::from(rate.burst) * SECOND;
        Self { per_second: rate.per_second.into(), full, level: full, filled_ns: None }
    }

    /// Takes a token, if there is one at this time. Time that goes back fills nothing.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let since = self.filled_ns.map_or(0, |filled| now_ns.saturating_sub(filled));
        self.filled_ns = Some(self.filled_ns.unwrap_or(0).max(now_ns));
        self.level =
            self.level.saturating_add(since.saturating_mul(self.per_second)).min(self.full);
        let is_enough = self.level >= SECOND;
        if is_enough {
            self.level -= SECOND;
        }
        is_enough
    }
}
