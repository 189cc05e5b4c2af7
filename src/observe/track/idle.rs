//! Decides when a container is idle. Pure: the caller passes the time and the activity.
//!
//! ```text
//!  active ────── no activity for the configured time ──────► idle
//!     ▲                                                       │
//!     └─────────── an exec · a connection · input ────────────┘
//! ```
//!
//! While an exec runs there is no deadline. Otherwise there is one deadline, at which the container
//! may become idle; the caller passes the number of connections then. An idle container has no
//! timer.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{model::Activity, observe::source::Connections};

/// Whether one container is idle, and since when it has had no activity.
#[derive(Debug)]
pub(in crate::observe) struct Idleness {
    after_ns: u64,
    /// The ids of the running execs.
    running: BTreeSet<String>,
    /// The time of the last activity: `CLOCK_MONOTONIC`, in nanoseconds.
    quiet_since_ns: u64,
    /// The time at which [`check`](Self::check) decides again; `None` while the container is idle.
    due_ns: Option<u64>,
}

/// When a container's first process last had input. The shim's thread writes it and the observer's
/// thread reads it.
#[derive(Debug, Default)]
pub(in crate::observe) struct LastInput {
    last_ns: AtomicU64,
    awaited: AtomicBool,
}

impl LastInput {
    /// Notes input at this time. Returns whether the observer waits for it: the first input after
    /// [`await_next`](Self::await_next).
    pub(in crate::observe) fn note(&self, now_ns: u64) -> bool {
        self.last_ns.store(now_ns, Ordering::Relaxed);
        // The load is cheaper than the swap, and input is frequent and rarely awaited.
        self.awaited.load(Ordering::Relaxed) && self.awaited.swap(false, Ordering::Relaxed)
    }

    /// The time of the last input: `CLOCK_MONOTONIC`, in nanoseconds; 0 before the first.
    pub(in crate::observe) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    /// Makes the next [`note`](Self::note) return `true`.
    pub(in crate::observe) fn await_next(self: &Arc<Self>) {
        self.awaited.store(true, Ordering::Relaxed);
    }
}

impl Idleness {
    /// A container that is active at `now_ns` and idle after `after_ns` without activity.
    pub(in crate::observe) fn new(after_ns: u64, now_ns: u64) -> Self {
        let due_ns = Some(now_ns.saturating_add(after_ns));
        Self { after_ns, running: BTreeSet::new(), quiet_since_ns: now_ns, due_ns }
    }

    /// An exec was started. Returns the cause if the start ends the idleness.
    pub(in crate::observe) fn exec_started(
        &mut self,
        exec_id: &str,
        now_ns: u64,
    ) -> Option<Activity> {
        self.running.insert(exec_id.to_owned());
        self.note_activity(Activity::Exec, now_ns)
    }

    /// An exec has ended. An unknown exec changes nothing.
    pub(in crate::observe) fn exec_ended(&mut self, exec_id: &str, now_ns: u64) {
        if self.running.remove(exec_id) {
            self.note_activity(Activity::Exec, now_ns);
        }
    }

    /// Notes an activity. Returns the activity if it ends the idleness.
    pub(in crate::observe) fn note_activity(
        &mut self,
        what: Activity,
        now_ns: u64,
    ) -> Option<Activity> {
        // A record may be older than an activity that is noted already.
        self.quiet_since_ns = self.quiet_since_ns.max(now_ns);
        let was_idle = self.due_ns.is_none();
        self.due_ns = Some(self.quiet_since_ns.saturating_add(self.after_ns));
        was_idle.then_some(what)
    }

    /// When to call [`check`](Self::check) next; `None` while the container is idle or an exec
    /// runs.
    pub(in crate::observe) fn due_ns(&self) -> Option<u64> {
        // The end of the last exec sets the next deadline, so a timer before that would find
        // nothing.
        self.due_ns.filter(|_| self.running.is_empty())
    }

    /// Decides whether the container becomes idle, from the time of the last input and the
    /// connections that the source has counted. If it does, returns for how many nanoseconds there
    /// was no activity; otherwise sets the next deadline.
    pub(in crate::observe) fn check(
        &mut self,
        now_ns: u64,
        input_ns: u64,
        connections: Connections,
    ) -> Option<u64> {
        self.due_ns().filter(|due| *due <= now_ns)?;
        if connections.open > 0 {
            // An open connection is activity for as long as it is open.
            self.quiet_since_ns = now_ns;
        }
        self.quiet_since_ns = self.quiet_since_ns.max(input_ns).max(connections.changed_ns);
        let quiet_ns = now_ns.saturating_sub(self.quiet_since_ns);
        if quiet_ns < self.after_ns {
            self.due_ns = Some(self.quiet_since_ns.saturating_add(self.after_ns));
            return None;
        }
        self.due_ns = None;
        Some(quiet_ns)
    }

    /// Whether the container is idle.
    pub(in crate::observe) fn is_idle(&self) -> bool {
        self.due_ns.is_none()
    }
}

#[cfg(test)]
mod tests;
