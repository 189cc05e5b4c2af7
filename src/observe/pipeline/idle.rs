//! Which containers are idle: asks the source and the kernel what the rules of [`Idle`] want to
//! know.

use std::{sync::Arc, time::Duration};

use super::{Pipeline, monotonic_ns};
use crate::{
    model::{Activity, Body, Grade, SocketState},
    observe::{
        record::TargetId,
        source::Connections,
        track::{
            Effect, Emission, Outcome,
            idle::{Idle, Input},
        },
    },
};

/// What is known of a container's quiet.
#[derive(Debug)]
pub(super) struct Quiet {
    idle: Idle,
    input: Arc<Input>,
}

impl Pipeline {
    /// Tells when a container that is watched has been quiet for `after`, and when it no longer is.
    pub(in crate::observe) fn watch_idle(
        &mut self,
        id: TargetId,
        after: Duration,
        input: Arc<Input>,
    ) {
        // Counted from here on.
        self.source.connections(id);
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        if let Some(watched) = self.targets.get_mut(&id) {
            watched.quiet = Some(Quiet { idle: Idle::new(after_ns, monotonic_ns()), input });
        }
    }

    /// A container's first process has ended: it is neither idle nor active.
    pub(in crate::observe) fn unwatch_idle(&mut self, id: TargetId) {
        if let Some(watched) = self.targets.get_mut(&id) {
            watched.quiet = None;
        }
    }

    /// An exec of a container has its process.
    pub(in crate::observe) fn exec_started(&mut self, id: TargetId, exec_id: &str) {
        self.active(id, |idle, now| idle.exec_started(exec_id, now));
    }

    /// The process of an exec has ended.
    pub(in crate::observe) fn exec_ended(&mut self, id: TargetId, exec_id: &str) {
        self.active(id, |idle, now| {
            idle.exec_ended(exec_id, now);
            None
        });
    }

    /// An idle container's first process has input.
    pub(in crate::observe) fn input(&mut self, id: TargetId) {
        self.active(id, |idle, now| idle.happened(Activity::Input, now));
    }

    /// The record of a connection that was waited for.
    pub(super) fn connected(&mut self, id: TargetId, at_ns: u64) {
        let is_told = self.active(id, |idle, _| idle.happened(Activity::Connection, at_ns));
        let outcome = if is_told { Outcome::Reported } else { Outcome::Silent };
        self.tracker.socket(id, at_ns, outcome, &mut self.effects);
    }

    /// Whether a container is idle, as was told last.
    pub(in crate::observe) fn is_idle(&self, id: TargetId) -> bool {
        self.targets
            .get(&id)
            .is_some_and(|one| one.quiet.as_ref().is_some_and(|one| one.idle.is_idle()))
    }

    /// How long until a container may be idle.
    pub(super) fn idle_after(&self) -> Option<Duration> {
        let quiets = self.targets.values().filter_map(|watched| watched.quiet.as_ref());
        let due = quiets.filter_map(|quiet| quiet.idle.due_ns()).min()?;
        Some(Duration::from_nanos(due.saturating_sub(monotonic_ns())))
    }

    /// Tells which containers are idle by now.
    pub(in crate::observe) fn tell_idle(&mut self) {
        let now = monotonic_ns();
        let is_due = |quiet: &Quiet| quiet.idle.due_ns().is_some_and(|due| due <= now);
        let due =
            self.targets.iter().filter(|(_, watched)| watched.quiet.as_ref().is_some_and(is_due));
        let due: Vec<TargetId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let mut seen = self.source.connections(id).unwrap_or_default();
            if seen.open == 0 {
                // Some may be older than the watch; and a source may not count at all.
                seen.open = self.established(id);
            }
            let Some(quiet) = self.targets.get_mut(&id).and_then(|watched| watched.quiet.as_mut())
            else {
                continue;
            };
            let input_ns = quiet.input.last_ns();
            let Some(quiet_ns) = quiet.idle.quiet(now, input_ns, seen) else { continue };
            quiet.input.is_awaited();
            self.tell_quiet(id, now, true, Body::ContainerIdle { quiet_ns });
            self.source.await_connection(id);
            // What came between the question and the waiting.
            let after = self.source.connections(id).unwrap_or(Connections { open: 0, ..seen });
            if after.open > 0 || after.changed_ns != seen.changed_ns {
                self.active(id, |idle, now| idle.happened(Activity::Connection, now));
            }
            let quiet = self.targets.get(&id).and_then(|watched| watched.quiet.as_ref());
            if quiet.is_some_and(|quiet| quiet.input.last_ns() != input_ns) {
                self.input(id);
            }
        }
        self.perform();
    }

    /// For a source that counts no connections: whether one ended the idleness of a container.
    pub(super) fn look_for_connections(&mut self, id: TargetId) {
        if self.is_idle(id) && self.established(id) > 0 {
            self.active(id, |idle, now| idle.happened(Activity::Connection, now));
        }
    }

    fn established(&self, id: TargetId) -> u64 {
        let sockets = self.sockets(id, SocketState::Established);
        sockets.map_or(0, |sockets| sockets.len().try_into().unwrap_or(u64::MAX))
    }

    /// Answers whether that ended an idleness, which is told then.
    fn active(
        &mut self,
        id: TargetId,
        act: impl FnOnce(&mut Idle, u64) -> Option<Activity>,
    ) -> bool {
        let now = monotonic_ns();
        let quiet = self.targets.get_mut(&id).and_then(|watched| watched.quiet.as_mut());
        let Some(cause) = quiet.and_then(|quiet| act(&mut quiet.idle, now)) else { return false };
        self.tell_quiet(id, now, cause != Activity::Connection, Body::ContainerActive { cause });
        true
    }

    fn tell_quiet(&mut self, id: TargetId, at_ns: u64, derived: bool, body: Body) {
        let told = Emission { target: Some(id), at_ns, grade: Grade::Exact, derived, body };
        self.effects.push(Effect::Emit(told));
    }
}
