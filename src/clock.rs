//! The kernel's clocks, in nanoseconds.
//!
//! A time namespace (time_namespaces(7)) shifts `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` for its
//! processes, and with the latter the starts of processes in `/proc`. The times here are those of
//! the initial time namespace, which the eBPF programs record and which all processes of the node
//! can compare.

use std::{fs, sync::OnceLock};

use nix::time::{ClockId, clock_gettime};

/// The time of `CLOCK_MONOTONIC` in nanoseconds, the clock of the eBPF programs' records.
#[must_use]
pub fn monotonic_ns() -> u64 {
    unshifted(ClockId::CLOCK_MONOTONIC, shift().monotonic_ns)
}

/// The time of `CLOCK_REALTIME`, in nanoseconds since 1970.
#[must_use]
pub fn realtime_ns() -> u64 {
    unshifted(ClockId::CLOCK_REALTIME, 0)
}

/// The nanoseconds to add to a time of `CLOCK_MONOTONIC` to get `CLOCK_REALTIME`. The offset
/// changes when the wall clock is set, so callers must read the offset again at intervals.
#[must_use]
pub fn realtime_offset_ns() -> u64 {
    realtime_ns().saturating_sub(monotonic_ns())
}

/// How far `CLOCK_BOOTTIME` of this process is ahead of that of the initial time namespace.
#[must_use]
pub fn boottime_shift_ns() -> i64 {
    shift().boottime_ns
}

/// How far the clocks of this process's time namespace are ahead of those of the initial one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Shift {
    monotonic_ns: i64,
    boottime_ns: i64,
}

/// Read once, because a process does not change its time namespace after its exec.
fn shift() -> Shift {
    static SHIFT: OnceLock<Shift> = OnceLock::new();
    // Without the file the kernel has no time namespaces.
    *SHIFT.get_or_init(|| {
        fs::read_to_string("/proc/self/timens_offsets").map_or_else(|_| Shift::default(), parse)
    })
}

/// Parses the lines of the file: a clock, seconds and nanoseconds.
fn parse(text: impl AsRef<str>) -> Shift {
    let mut shift = Shift::default();
    for line in text.as_ref().lines() {
        let mut words = line.split_ascii_whitespace();
        let (clock, mut number) = (words.next(), || words.next()?.parse::<i64>().ok());
        let (Some(seconds), Some(nanoseconds)) = (number(), number()) else { continue };
        let ns = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
        match clock {
            Some("monotonic") => shift.monotonic_ns = ns,
            Some("boottime") => shift.boottime_ns = ns,
            _ => {}
        }
    }
    shift
}

/// The time of a clock that is `shift_ns` ahead.
pub(crate) fn unshifted(clock: ClockId, shift_ns: i64) -> u64 {
    // This cannot fail: the kernel has had these clocks since 2.6.39.
    clock_gettime(clock).map_or(0, |time| {
        let ns = time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec());
        u64::try_from(ns.saturating_sub(shift_ns)).unwrap_or(0)
    })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    /// Parses the offsets of a time namespace.
    pub(crate) fn offsets(bytes: &[u8]) {
        std::hint::black_box(super::parse(String::from_utf8_lossy(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the offsets of a time namespace are read, and that anything else is none.
    #[test]
    fn the_shift_has_seconds_and_nanoseconds() {
        let text = "monotonic         -60   500000000\nboottime        86400           0\n";
        let shift = Shift { monotonic_ns: -59_500_000_000, boottime_ns: 86_400_000_000_000 };
        assert_eq!(parse(text), shift);
        assert_eq!(parse("monotonic\nboottime x y\n\n"), Shift::default());
    }
}
