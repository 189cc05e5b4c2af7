//! Idleness of containers: supplies the rules of [`Idleness`] with the facts of the source and the
//! kernel, and emits what they decide.

use std::{sync::Arc, time::Duration};

use super::{Pipeline, monotonic_ns};
use crate::{
    model::{Activity, Body, Grade},
    observe::{
        record::TargetId,
        source::Connections,
        track::{
            Emission, RecordOutcome,
            idle::{Idleness, LastInput},
        },
    },
};

/// The idleness of one container, with the time of its last input.
#[derive(Debug)]
pub(super) struct IdleState {
    idle: Idleness,
    input: Arc<LastInput>,
}

impl Pipeline {
    /// Observes the idleness of a target: emits `container.idle` when it had no activity for
    /// `after`, and `container.active` when it is active again. `input` has the time of the last
    /// input of init, which the async thread writes.
    pub(in crate::observe) fn watch_idle(
        &mut self,
        id: TargetId,
        after: Duration,
        input: Arc<LastInput>,
    ) {
        // The first call makes the source count connections; see `Source::connections`.
        self.source.connections(id);
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        if let Some(watched) = self.targets.get_mut(&id) {
            watched.idle = Some(IdleState { idle: Idleness::new(after_ns, monotonic_ns()), input });
        }
    }

    /// Stops observing the idleness of a container, because its init has ended.
    pub(in crate::observe) fn unwatch_idle(&mut self, id: TargetId) {
        if let Some(watched) = self.targets.get_mut(&id) {
            watched.idle = None;
        }
    }

    /// Records that an exec runs. A container is not idle while one does.
    pub(in crate::observe) fn exec_started(&mut self, id: TargetId, exec_id: &str) {
        self.apply_activity(id, |idle, now| idle.exec_started(exec_id, now));
    }

    /// Records that the process of an exec has ended.
    pub(in crate::observe) fn exec_ended(&mut self, id: TargetId, exec_id: &str) {
        self.apply_activity(id, |idle, now| {
            idle.exec_ended(exec_id, now);
            None
        });
    }

    /// Records that init of an idle container has received input.
    pub(in crate::observe) fn input(&mut self, id: TargetId) {
        self.apply_activity(id, |idle, now| idle.note_activity(Activity::Input, now));
    }

    /// Processes the record of a connection that [`Source::await_connection`] asked for.
    ///
    /// [`Source::await_connection`]: crate::observe::source::Source::await_connection
    pub(super) fn record_connection(&mut self, id: TargetId, at_ns: u64) {
        let is_reported =
            self.apply_activity(id, |idle, _| idle.note_activity(Activity::Connection, at_ns));
        let outcome = if is_reported { RecordOutcome::Reported } else { RecordOutcome::Silent };
        self.tracker.count_socket_record(id, at_ns, outcome);
    }

    /// Whether a container is idle, according to the last event about it.
    pub(in crate::observe) fn is_idle(&self, id: TargetId) -> bool {
        self.targets
            .get(&id)
            .is_some_and(|watched| watched.idle.as_ref().is_some_and(|state| state.idle.is_idle()))
    }

    /// How long until [`report_idle`](Self::report_idle) may find a container idle; `None` if no
    /// container can become idle by the passing of time alone.
    pub(super) fn idle_check_after(&self) -> Option<Duration> {
        let states = self.targets.values().filter_map(|watched| watched.idle.as_ref());
        let due = states.filter_map(|state| state.idle.due_ns()).min()?;
        Some(Duration::from_nanos(due.saturating_sub(monotonic_ns())))
    }

    /// Emits `container.idle` for the containers that have become idle.
    pub(in crate::observe) fn report_idle(&mut self) {
        let now = monotonic_ns();
        let is_due = |state: &IdleState| state.idle.due_ns().is_some_and(|due| due <= now);
        let due =
            self.targets.iter().filter(|(_, watched)| watched.idle.as_ref().is_some_and(is_due));
        let due: Vec<TargetId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let mut seen = self.source.connections(id).unwrap_or_default();
            if seen.open == 0 {
                // The source counts no connection that was established before it observed the
                // target, and some sources count no connections at all.
                seen.open = self.established_connections(id);
            }
            let Some(state) = self.targets.get_mut(&id).and_then(|watched| watched.idle.as_mut())
            else {
                continue;
            };
            let input_ns = state.input.last_ns();
            let Some(quiet_ns) = state.idle.check(now, input_ns, seen) else { continue };
            state.input.await_next();
            self.emit_idleness(id, now, true, Body::ContainerIdle { quiet_ns });
            self.source.await_connection(id);
            // There may have been activity between the checks above and the moment from which the
            // source and the input report it, so the source and the input are read again.
            let after = self.source.connections(id).unwrap_or(Connections { open: 0, ..seen });
            if after.open > 0 || after.changed_ns != seen.changed_ns {
                self.apply_activity(id, |idle, now| idle.note_activity(Activity::Connection, now));
            }
            let state = self.targets.get(&id).and_then(|watched| watched.idle.as_ref());
            if state.is_some_and(|state| state.input.last_ns() != input_ns) {
                self.input(id);
            }
        }
        self.run_effects();
    }

    /// Ends the idleness of a container that has an established connection. For sources that do not
    /// count connections.
    pub(super) fn check_connections(&mut self, id: TargetId) {
        if self.is_idle(id) && self.established_connections(id) > 0 {
            self.apply_activity(id, |idle, now| idle.note_activity(Activity::Connection, now));
        }
    }

    /// The number of established TCP connections in the kernel's list; 0 if it cannot be read.
    fn established_connections(&self, id: TargetId) -> u64 {
        let sockets = self.connections(id);
        sockets.map_or(0, |sockets| sockets.len().try_into().unwrap_or(u64::MAX))
    }

    /// Applies an activity. If it ends an idleness, emits `container.active` and returns `true`.
    fn apply_activity(
        &mut self,
        id: TargetId,
        apply: impl FnOnce(&mut Idleness, u64) -> Option<Activity>,
    ) -> bool {
        let now = monotonic_ns();
        let state = self.targets.get_mut(&id).and_then(|watched| watched.idle.as_mut());
        let Some(cause) = state.and_then(|state| apply(&mut state.idle, now)) else { return false };
        // A connection has a record of its own, so its event belongs to the account of records.
        self.emit_idleness(id, now, cause != Activity::Connection, Body::ContainerActive { cause });
        true
    }

    fn emit_idleness(&mut self, id: TargetId, at_ns: u64, derived: bool, body: Body) {
        let emission = Emission { target: Some(id), at_ns, grade: Grade::Exact, derived, body };
        self.tracker.emit(emission);
    }
}
