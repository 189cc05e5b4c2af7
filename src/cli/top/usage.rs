//! The resources that processes use, read from `/proc`, and the rates between two readings.

use std::{collections::HashMap, time::Instant};

use crate::{
    cli::rates::per_second,
    model::ProcessKey,
    platform::process::{Consumption, consumption},
};

/// What a process had used at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// When it was read, in nanoseconds since the command started.
    pub(super) at_ns: u64,
    pub(super) used: Consumption,
}

/// What is shown of the usage of a process, or of several together. A field is `None` if it is not
/// known: a rate needs two samples, and the bytes of other users' processes may not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    /// 1.0 is one processor.
    pub(super) cpu: Option<f64>,
    pub(super) rss_bytes: Option<u64>,
    /// Bytes read from storage in a second, and bytes written to it.
    pub(super) read: Option<f64>,
    pub(super) written: Option<f64>,
}

impl Used {
    /// The usage between two samples of a process; without the rates if there is only one.
    pub(super) fn between(before: Option<&Sample>, now: &Sample) -> Self {
        let rate = |used: fn(&Consumption) -> Option<u64>| {
            let before = before?;
            let over_ns = now.at_ns.checked_sub(before.at_ns)?;
            per_second(used(&before.used)?, used(&now.used)?, over_ns)
        };
        Self {
            cpu: rate(|used| Some(used.cpu_ns)).map(|ns| ns / 1e9),
            rss_bytes: Some(now.used.rss_bytes),
            read: rate(|used| used.io.map(|(read, _)| read)),
            written: rate(|used| used.io.map(|(_, written)| written)),
        }
    }

    /// Adds the usage of another process. What is known of one of them counts.
    pub(super) fn add(&mut self, other: Self) {
        fn sum<T: std::ops::Add<Output = T> + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            }
        }
        self.cpu = sum(self.cpu, other.cpu);
        self.rss_bytes = sum(self.rss_bytes, other.rss_bytes);
        self.read = sum(self.read, other.read);
        self.written = sum(self.written, other.written);
    }

    /// Bytes read and written in a second.
    pub(super) fn io(&self) -> f64 {
        self.read.unwrap_or_default() + self.written.unwrap_or_default()
    }
}

/// Reads the usage of processes, by their entity ids. Leaves out those that have ended. Blocks for
/// microseconds a process.
pub(super) fn read(
    processes: Vec<(String, ProcessKey)>,
    begun: Instant,
) -> HashMap<String, Sample> {
    let sample = |(entity_id, key)| {
        let used = consumption(key)?;
        let at_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Some((entity_id, Sample { at_ns, used }))
    };
    processes.into_iter().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, cpu_ms: u64, io: Option<(u64, u64)>) -> Sample {
        let used = Consumption { cpu_ns: cpu_ms * 1_000_000, rss_bytes: 4096, io };
        Sample { at_ns: at_ms * 1_000_000, used }
    }

    /// Check that a rate needs two samples, and that bytes that may not be read have none.
    #[test]
    fn a_rate_is_between_two_samples() {
        let (one, two) = (sample(0, 100, Some((0, 10))), sample(500, 350, Some((1000, 10))));
        let used = Used::between(Some(&one), &two);
        assert_eq!((used.cpu, used.read, used.written), (Some(0.5), Some(2000.0), Some(0.0)));
        let first = Used::between(None, &one);
        assert_eq!((first.cpu, first.rss_bytes, first.read), (None, Some(4096), None));
        let denied = Used::between(Some(&sample(0, 0, None)), &two);
        assert_eq!((denied.cpu.is_some(), denied.read), (true, None));
        // Two samples at the same time, and a counter that went back.
        assert_eq!(Used::between(Some(&two), &two).cpu, None);
        assert_eq!(Used::between(Some(&sample(0, 900, None)), &two).cpu, Some(0.0));
    }

    /// Check that a sum has what is known of its parts.
    #[test]
    fn a_sum_has_what_is_known() {
        let mut sum = Used::default();
        sum.add(Used { cpu: Some(0.5), ..Used::default() });
        sum.add(Used { cpu: Some(0.25), rss_bytes: Some(7), ..Used::default() });
        assert_eq!((sum.cpu, sum.rss_bytes, sum.read), (Some(0.75), Some(7), None));
    }
}
