//! The scheduling priority of a thread.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How much CPU time a thread may use at raised priority within [`BUDGET_WINDOW`]: one tenth, so
/// that it is at most a fifth of any second.
const RAISED_BUDGET: Duration = Duration::from_millis(100);

/// The length of a window, in which a thread may use [`RAISED_BUDGET`] once.
const BUDGET_WINDOW: Duration = Duration::from_secs(1);

/// The raised scheduling priority of the thread that created this value.
///
/// A thread that works briefly and often, and loses data if it does not work in time, needs
/// precedence over all other threads. But containers decide how much work the thread has, and could
/// take the processor from everything else through it. So once the thread has used its budget, it
/// has the normal priority until the window ends.
#[derive(Debug)]
pub struct RaisedPriority {
    is_raised: bool,
    window_began: Instant,
    /// The CPU time of the thread when the window began.
    used_before: Duration,
}

impl RaisedPriority {
    /// Raises the priority of the calling thread. Errors are ignored.
    #[must_use]
    pub fn new() -> Self {
        raise();
        Self { is_raised: true, window_began: Instant::now(), used_before: thread_time() }
    }

    /// Gives the thread the raised priority if it has budget left in this window, and the normal
    /// one otherwise. To be called often.
    pub fn adjust(&mut self) {
        let used = thread_time();
        if self.window_began.elapsed() >= BUDGET_WINDOW {
            (self.window_began, self.used_before) = (Instant::now(), used);
        }
        let may_be_raised = used.saturating_sub(self.used_before) < RAISED_BUDGET;
        match (self.is_raised, may_be_raised) {
            (true, false) => self.lower(),
            (false, true) => {
                raise();
                self.is_raised = true;
            }
            _ => {}
        }
    }

    /// Gives the thread its normal priority before long work, until [`adjust`](Self::adjust).
    pub fn lower(&mut self) {
        set_scheduler(libc::SCHED_OTHER, 0);
        set_nice(0);
        self.is_raised = false;
    }
}

impl Default for RaisedPriority {
    fn default() -> Self {
        Self::new()
    }
}

/// The CPU time that the calling thread has used.
fn thread_time() -> Duration {
    // The clock of the own thread always exists.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Gives the calling thread precedence over all ordinary threads: the lowest real-time priority
/// (`SCHED_RR` 1, not inherited by children), or a nice value of -10 if the kernel refuses that
/// priority.
fn raise() {
    if !set_scheduler(libc::SCHED_RR, 1) {
        set_nice(-10);
    }
}

fn set_scheduler(policy: i32, priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // SAFETY: sched_setscheduler reads one struct that outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

fn set_nice(nice: i32) {
    // SAFETY: setpriority takes numbers; 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: sched_getscheduler takes a number; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    }

    /// Check that a thread that works without a pause has its raised priority for a part of each
    /// second only.
    #[test]
    fn a_busy_thread_has_the_raised_priority_for_a_part_of_the_time() {
        let mut priority = RaisedPriority::new();
        assert_eq!(policy(), libc::SCHED_RR);
        let (mut raised, mut returns) = (Duration::ZERO, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2500) {
            let (was, before) = (policy(), thread_time());
            while thread_time() - before < Duration::from_millis(1) {}
            if was == libc::SCHED_RR {
                raised += thread_time() - before;
            }
            priority.adjust();
            returns += i32::from(was != libc::SCHED_RR && policy() == libc::SCHED_RR);
        }
        // Three windows have begun.
        assert!(raised < Duration::from_millis(330), "{raised:?}");
        assert_eq!(returns, 2);
    }
}
