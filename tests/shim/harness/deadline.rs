//! Waiting for an event rather than for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How often a condition is looked at that nothing signals.
const PAUSE: Duration = Duration::from_millis(4);

/// Waits until `found` finds something.
///
/// # Panics
///
/// After [`PATIENCE`], with `what` was waited for.
#[track_caller]
pub(crate) fn find<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    find_within(PATIENCE, what, found)
}

/// As [`find`], with a deadline of the caller's.
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

/// Waits until `holds`.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    within(PATIENCE, what, holds);
}

/// As [`until`], with a deadline of the caller's.
#[track_caller]
pub(crate) fn within(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    find_within(deadline, what, || holds().then_some(()));
}

/// Runs `work` beside the test and gives its result, if it has one in time.
#[track_caller]
pub(crate) fn finish_within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || tell.send(work()));
    told.recv_timeout(deadline).unwrap_or_else(|_| panic!("{what} took longer than {deadline:?}"))
}
