//! The kernel's clocks, in nanoseconds.

use nix::time::{ClockId, clock_gettime};

/// The time of `CLOCK_MONOTONIC` in nanoseconds, the clock of the eBPF programs' records.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// The time of `CLOCK_REALTIME`, in nanoseconds since 1970.
#[must_use]
pub fn realtime_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// The nanoseconds to add to a time of `CLOCK_MONOTONIC` to get `CLOCK_REALTIME`. The offset
/// changes when the wall clock is set, so callers must read the offset again at intervals.
#[must_use]
pub fn realtime_offset_ns() -> u64 {
    realtime_ns().saturating_sub(monotonic_ns())
}

/// A clock of clock_gettime(2) in nanoseconds.
pub(crate) fn read(clock: ClockId) -> u64 {
    // This cannot fail: the kernel has had these clocks since 2.6.39. Their times are never
    // negative.
    clock_gettime(clock).map_or(0, |time| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec()).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec()))
    })
}
