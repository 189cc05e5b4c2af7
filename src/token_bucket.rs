//! A token bucket, which limits a rate.

/// Admits a burst, then a number of tokens in each period.
#[derive(Debug)]
pub struct TokenBucket {
    per_period: u64,
    /// The period in nanoseconds, and also the weight of one token. With it, a refill is
    /// `per_period` units a nanosecond, so that rounding loses no token.
    period_ns: u64,
    /// The capacity, in units.
    full: u64,
    /// The current level, in units.
    level: u64,
    /// The time of the last refill; `None` before the first.
    filled_ns: Option<u64>,
}

impl TokenBucket {
    /// A full bucket: a first burst is admitted as a whole.
    #[must_use]
    pub fn new(burst: u32, per_period: u32, period_ns: u64) -> Self {
        let full = u64::from(burst).saturating_mul(period_ns);
        Self { per_period: per_period.into(), period_ns, full, level: full, filled_ns: None }
    }

    /// Takes a token. Returns `false` if there is none at this time. A time before that of the
    /// previous call adds no tokens.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let since = self.filled_ns.map_or(0, |filled| now_ns.saturating_sub(filled));
        self.filled_ns = Some(self.filled_ns.unwrap_or(0).max(now_ns));
        // Bounded by the capacity: a long rest must not allow more than one burst.
        self.level =
            self.level.saturating_add(since.saturating_mul(self.per_period)).min(self.full);
        let is_enough = self.level >= self.period_ns;
        if is_enough {
            self.level -= self.period_ns;
        }
        is_enough
    }
}
