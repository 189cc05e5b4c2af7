//! Limits the rate of each line of the log.
//!
//! A container can cause some lines as often as it likes: it can run out of memory, refuse probes
//! or close its streams in a loop. containerd copies the lines to its own log, which belongs to the
//! node. Whether a container can cause a line is not obvious at the line, so every line is limited.

use std::{collections::HashMap, hash::Hash};

use crate::token_bucket::TokenBucket;

/// How many lines of one origin are written at once. More than a pod has containers or a node has
/// shims, so that the lines of a start are complete.
const BURST: u32 = 200;

/// After a burst, one line of an origin is written in this time.
const INTERVAL_NS: u64 = 5_000_000_000;

/// A limit for each origin of lines, which is a place in the source. So the number of limits is
/// bounded.
#[derive(Debug)]
pub(super) struct Limiter<Origin> {
    limits: HashMap<Origin, Limit>,
}

#[derive(Debug)]
struct Limit {
    bucket: TokenBucket,
    /// How many lines were suppressed since the last one that was written.
    suppressed: u64,
}

impl<Origin: Hash + Eq> Limiter<Origin> {
    pub(super) fn new() -> Self {
        Self { limits: HashMap::new() }
    }

    /// Whether a line may be written now: `None` if not, otherwise the number of lines of its
    /// origin that were suppressed before it.
    pub(super) fn admit(&mut self, origin: Origin, now_ns: u64) -> Option<u64> {
        let limit = self.limits.entry(origin).or_insert_with(|| Limit {
            bucket: TokenBucket::new(BURST, 1, INTERVAL_NS),
            suppressed: 0,
        });
        if limit.bucket.take(now_ns) {
            return Some(std::mem::take(&mut limit.suppressed));
        }
        limit.suppressed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that an origin that repeats its line for ever is limited to a burst and then to one
    /// line per interval, that the next line counts the suppressed ones, and that other origins are
    /// not affected.
    #[test]
    fn a_line_that_repeats_is_limited_and_counted() {
        let mut limiter = Limiter::new();
        let at_once = (0..1000).filter(|_| limiter.admit("oom", 7).is_some()).count();
        assert_eq!(at_once, 200);
        assert_eq!(limiter.admit("deleted", 7), Some(0));
        assert_eq!(limiter.admit("oom", 7 + INTERVAL_NS - 1), None);
        assert_eq!(limiter.admit("oom", 7 + INTERVAL_NS), Some(801));
        assert_eq!(limiter.admit("oom", 7 + INTERVAL_NS), None);
        // An hour of a line per millisecond.
        let hour = (0..3_600_000).map(|ms| 7 + INTERVAL_NS + ms * 1_000_000);
        assert_eq!(hour.filter(|now| limiter.admit("oom", *now).is_some()).count(), 719);
    }

    /// Check that after a rest of any length there is one burst and not more, and that a clock that
    /// goes back does no harm.
    #[test]
    fn a_rest_gives_one_burst() {
        let mut limiter = Limiter::new();
        for now in [0, u64::MAX / 2, u64::MAX - 1, 5] {
            let written = (0..500).filter(|_| limiter.admit((), now).is_some()).count();
            assert_eq!(written, if now == 5 { 0 } else { 200 });
        }
    }
}
