//! Waits for conditions with a deadline, instead of sleeping for a fixed time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// The longest wait on a busy machine before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The interval between checks of a condition that nothing signals.
const PAUSE: Duration = Duration::from_millis(4);

/// Waits until `found` returns a value.
///
/// # Panics
///
/// After [`PATIENCE`]; the message names `what`.
#[track_caller]
pub(crate) fn find<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    find_within(PATIENCE, what, found)
}

/// As [`find`], with a given deadline.
#[track_caller]
pub(crate) fn find_within<T>(
    deadline: Duration,
    what: &str,
    mut found: impl FnMut() -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begin.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}

/// Waits until `holds` returns true.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    within(PATIENCE, what, holds);
}

/// As [`until`], with a given deadline.
#[track_caller]
pub(crate) fn within(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    find_within(deadline, what, || holds().then_some(()));
}

/// Runs `work` on another thread and returns its result. Panics after the deadline.
#[track_caller]
pub(crate) fn finish_within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver
        .recv_timeout(deadline)
        .unwrap_or_else(|_| panic!("{what} took longer than {deadline:?}"))
}
