//! The leaves of storms that somebody was told of, each by its own number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Shared by who makes them and who hears of them.
#[derive(Clone)]
pub(super) struct Leaves(Arc<Shared>);

struct Shared {
    first: usize,
    seen: Vec<AtomicBool>,
    told: AtomicUsize,
}

impl Leaves {
    /// So many, with numbers that no others have had: what a journal still has of another storm
    /// does not count.
    pub(super) fn expect(count: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        Self::numbered(first, count)
    }

    /// So many from the number `first` on.
    pub(super) fn numbered(first: usize, count: usize) -> Self {
        let seen = (0..count).map(|_| AtomicBool::new(false)).collect();
        Self(Arc::new(Shared { first, seen, told: AtomicUsize::new(0) }))
    }

    pub(super) fn first(&self) -> usize {
        self.0.first
    }

    /// Somebody was told of this one.
    pub(super) fn tell(&self, number: usize) {
        let Shared { first, seen, told } = &*self.0;
        let place = number.checked_sub(*first).and_then(|place| seen.get(place));
        if place.is_some_and(|seen| !seen.swap(true, Ordering::Relaxed)) {
            told.fetch_add(1, Ordering::Release);
        }
    }

    /// How many were told.
    pub(super) fn told(&self) -> usize {
        self.0.told.load(Ordering::Acquire)
    }

    /// Until so many were told, or `within` has passed.
    pub(super) fn wait_for(&self, count: usize, within: Duration) {
        let begun = Instant::now();
        while self.told() < count && begun.elapsed() < within {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The number of the leaf that a line tells the start of: ours as JSON, others as words.
pub(super) fn of_line(line: &str) -> Option<usize> {
    let digits =
        |text: &str| text.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok();
    if line.starts_with('{') {
        let start = line.contains(r#""type":"process.start""#);
        return start.then(|| digits(line.split_once(r#"["leaf",""#)?.1)).flatten();
    }
    // Its arguments come last; its name may come before.
    digits(line.rsplit_once("leaf ")?.1)
}

/// The number of the leaf that an event is about: its second argument, found without the rest being
/// decoded, which a forwarder would not do either.
pub(super) fn of_event(event: &[u8]) -> Option<usize> {
    // Two values of the field `args` of a Process, number 9: "leaf", and what follows it.
    const NAME: &[u8] = b"\x4a\x04leaf\x4a";
    let at = event.windows(NAME.len()).position(|bytes| bytes == NAME)? + NAME.len();
    let (length, rest) = event[at..].split_first()?;
    str::from_utf8(rest.get(..usize::from(*length))?).ok()?.parse().ok()
}
