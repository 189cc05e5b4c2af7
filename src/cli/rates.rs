//! The rate of a counter between two readings.

/// How much a counter has risen in a second; `None` if no time has passed. A counter that went back
/// has a rate of 0: the two readings are of different moments than their times.
pub(super) fn per_second(before: u64, now: u64, over_ns: u64) -> Option<f64> {
    let risen = now.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "the rate is only displayed")]
    let rate = |risen: u64, over_ns: u64| risen as f64 * 1e9 / over_ns as f64;
    (over_ns > 0).then(|| rate(risen, over_ns))
}
