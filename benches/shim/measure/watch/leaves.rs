//! The leaves of storms that were reported, each by its own number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The leaves of one storm. It is shared by the storm's starter and the subscriber.
#[derive(Clone)]
pub(super) struct Leaves(Arc<Shared>);

struct Shared {
    first: usize,
    seen: Vec<AtomicBool>,
    reported: AtomicUsize,
}

impl Leaves {
    /// Expects `count` leaves with numbers that no other storm uses, so that events of an earlier
    /// storm in a journal do not count.
    pub(super) fn expect(count: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        Self::numbered(first, count)
    }

    /// Expects `count` leaves from the number `first` on.
    pub(super) fn numbered(first: usize, count: usize) -> Self {
        let seen = (0..count).map(|_| AtomicBool::new(false)).collect();
        Self(Arc::new(Shared { first, seen, reported: AtomicUsize::new(0) }))
    }

    pub(super) fn first(&self) -> usize {
        self.0.first
    }

    /// Counts a reported leaf, once.
    pub(super) fn report(&self, number: usize) {
        let Shared { first, seen, reported } = &*self.0;
        let workspace = number.checked_sub(*first).and_then(|workspace| seen.get(workspace));
        if workspace.is_some_and(|seen| !seen.swap(true, Ordering::Relaxed)) {
            reported.fetch_add(1, Ordering::Release);
        }
    }

    /// How many leaves were reported so far.
    pub(super) fn reported(&self) -> usize {
        self.0.reported.load(Ordering::Acquire)
    }

    /// Waits until `count` leaves were reported, or `within` has passed.
    pub(super) fn wait_for(&self, count: usize, within: Duration) {
        let begun = Instant::now();
        while self.reported() < count && begun.elapsed() < within {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The number in a line that reports the start of a leaf, as JSON (ours) or as words (other tools);
/// `None` if there is none.
pub(super) fn of_line(line: &str) -> Option<usize> {
    let digits =
        |text: &str| text.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok();
    if line.starts_with('{') {
        let start = line.contains(r#""type":"process.start""#);
        return start.then(|| digits(line.split_once(r#"["leaf",""#)?.1)).flatten();
    }
    // The name may occur before; the arguments are at the end.
    digits(line.rsplit_once("leaf ")?.1)
}

/// The number of the leaf in an encoded event: its second argument. It is found without decoding
/// the rest, as a forwarder would do; `None` if there is none.
pub(super) fn of_event(event: &[u8]) -> Option<usize> {
    // Looks for two values of the field `args` of a Process, number 9: "leaf", and the one after
    // it.
    const NAME: &[u8] = b"\x4a\x04leaf\x4a";
    let at = event.windows(NAME.len()).position(|bytes| bytes == NAME)? + NAME.len();
    let (length, rest) = event[at..].split_first()?;
    str::from_utf8(rest.get(..usize::from(*length))?).ok()?.parse().ok()
}
