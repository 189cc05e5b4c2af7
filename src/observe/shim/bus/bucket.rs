//! A token bucket, which limits the rate of events on the bus.

use super::Rate;

/// One second in nanoseconds, and also the weight of one token. With it, a refill of `rate` tokens
/// a second is `rate` units a nanosecond, so that rounding loses no token.
const SECOND: u64 = 1_000_000_000;

/// Admits a burst of events, then a number of events a second.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    /// The capacity, in billionths of a token.
    full: u64,
    /// The current level, in billionths of a token.
    level: u64,
    /// The time of the last refill; `None` before the first.
    filled_ns: Option<u64>,
}

impl Bucket {
    /// A full bucket: a first burst is admitted as a whole.
    pub(super) fn new(rate: Rate) -> Self {
        let full = u64::from(rate.burst) * SECOND;
        Self { per_second: rate.per_second.into(), full, level: full, filled_ns: None }
    }

    /// Takes a token. Returns `false` if there is none at this time. A time before that of the
    /// previous call adds no tokens.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let since = self.filled_ns.map_or(0, |filled| now_ns.saturating_sub(filled));
        self.filled_ns = Some(self.filled_ns.unwrap_or(0).max(now_ns));
        // Bounded by the capacity: a long rest must not allow more than one burst.
        self.level =
            self.level.saturating_add(since.saturating_mul(self.per_second)).min(self.full);
        let is_enough = self.level >= SECOND;
        if is_enough {
            self.level -= SECOND;
        }
        is_enough
    }
}
