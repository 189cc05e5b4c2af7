//! When a container is idle. Pure: is told the time, and what was seen.
//!
//! ```text
//!  active ──quiet for as long as was asked for──► idle
//!     ▲                                             │
//!     └────── an exec · a connection · input ───────┘
//! ```
//!
//! While an exec runs, nothing is waited for. Otherwise there is one moment at which it may be
//! idle; then it is asked what connections there were. An idle one has no timer.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{model::Activity, observe::source::Connections};

/// One container.
#[derive(Debug)]
pub(in crate::observe) struct Idle {
    after_ns: u64,
    /// By exec id.
    running: BTreeSet<String>,
    /// When something happened last.
    quiet_since_ns: u64,
    /// When it may be idle; `None` while it is.
    due_ns: Option<u64>,
}

/// When a container's first process last had input: written by the shim's thread, read by the
/// observer's.
#[derive(Debug, Default)]
pub(in crate::observe) struct Input {
    last_ns: AtomicU64,
    awaited: AtomicBool,
}

impl Input {
    /// There was some. Answers whether somebody waited for it.
    pub(in crate::observe) fn came(&self, now_ns: u64) -> bool {
        self.last_ns.store(now_ns, Ordering::Relaxed);
        self.awaited.load(Ordering::Relaxed) && self.awaited.swap(false, Ordering::Relaxed)
    }

    pub(in crate::observe) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    /// The next answers so.
    pub(in crate::observe) fn is_awaited(self: &Arc<Self>) {
        self.awaited.store(true, Ordering::Relaxed);
    }
}

impl Idle {
    pub(in crate::observe) fn new(after_ns: u64, now_ns: u64) -> Self {
        let due_ns = Some(now_ns.saturating_add(after_ns));
        Self { after_ns, running: BTreeSet::new(), quiet_since_ns: now_ns, due_ns }
    }

    /// An exec was started. Answers whether that ends its idleness.
    pub(in crate::observe) fn exec_started(
        &mut self,
        exec_id: &str,
        now_ns: u64,
    ) -> Option<Activity> {
        self.running.insert(exec_id.to_owned());
        self.happened(Activity::Exec, now_ns)
    }

    /// An exec has ended.
    pub(in crate::observe) fn exec_ended(&mut self, exec_id: &str, now_ns: u64) {
        if self.running.remove(exec_id) {
            self.happened(Activity::Exec, now_ns);
        }
    }

    /// Something happened. Answers what ends its idleness.
    pub(in crate::observe) fn happened(&mut self, what: Activity, now_ns: u64) -> Option<Activity> {
        self.quiet_since_ns = self.quiet_since_ns.max(now_ns);
        let was_idle = self.due_ns.is_none();
        self.due_ns = Some(self.quiet_since_ns.saturating_add(self.after_ns));
        was_idle.then_some(what)
    }

    /// When to ask [`quiet`](Self::quiet).
    pub(in crate::observe) fn due_ns(&self) -> Option<u64> {
        self.due_ns.filter(|_| self.running.is_empty())
    }

    /// For how long it has been quiet, if that is long enough, by what was seen; it is idle then.
    pub(in crate::observe) fn quiet(
        &mut self,
        now_ns: u64,
        input_ns: u64,
        seen: Connections,
    ) -> Option<u64> {
        self.due_ns().filter(|due| *due <= now_ns)?;
        if seen.open > 0 {
            self.quiet_since_ns = now_ns;
        }
        self.quiet_since_ns = self.quiet_since_ns.max(input_ns).max(seen.changed_ns);
        let quiet_ns = now_ns.saturating_sub(self.quiet_since_ns);
        if quiet_ns < self.after_ns {
            self.due_ns = Some(self.quiet_since_ns.saturating_add(self.after_ns));
            return None;
        }
        self.due_ns = None;
        Some(quiet_ns)
    }

    /// Whether it is.
    pub(in crate::observe) fn is_idle(&self) -> bool {
        self.due_ns.is_none()
    }
}

#[cfg(test)]
mod tests;
