//! The effects of the lifecycle: what the owner does after a change of state.

use super::{Container, ENDING_GRACE};
use crate::{
    publish::TaskEvent,
    task::lifecycle::{
        container::{self, Effect, Fact, State},
        exec,
    },
};

impl Container {
    /// Changes the state of the container after a fact, and performs the effect.
    pub(super) fn apply(&mut self, fact: Fact) {
        let (state, effect) = container::advance(self.state, fact);
        self.state = state;
        self.perform(effect);
    }

    fn perform(&mut self, effect: Effect) {
        let id = self.id();
        match effect {
            Effect::None => {}
            Effect::ReportStarted => {
                // Init always exists here: a create or a restore has made it.
                if let Some(pid) = self.init_pid {
                    tracing::info!(id, pid, "container started");
                    self.publish(TaskEvent::start(&id, pid));
                }
                self.publish_oom();
            }
            Effect::ReportStartedThenEnd(exit) => {
                self.perform(Effect::ReportStarted);
                self.perform(Effect::End(exit));
            }
            Effect::End(_) => self.end(),
            Effect::ThawThenEnd(_) => {
                self.perform(Effect::Thaw);
                self.end();
            }
            Effect::Thaw => {
                if let Some(runc) = self.runc.clone() {
                    self.operations.thaw(runc, id, self.cgroup.clone());
                }
            }
            Effect::ReportPaused => self.publish(TaskEvent::paused(&id)),
            Effect::ReportResumed => self.publish(TaskEvent::resumed(&id)),
            Effect::ReportExit(exit) => {
                tracing::info!(
                    id,
                    pid = exit.pid,
                    status = exit.status(),
                    "init of a container exited"
                );
                // An OOM kill during a start that failed has not been published yet, and the OOM
                // event must precede the exit event.
                self.publish_oom();
                self.init.answer_waiters(exit.into());
                self.publish(TaskEvent::exit(&id, &id, exit));
            }
            // The method `deleted` publishes the event, because it also answers the requests.
            Effect::ReportDeleted => {}
        }
    }

    /// Changes the state of an exec after a fact, and performs the effect.
    pub(super) fn apply_to_exec(&mut self, exec_id: &str, fact: exec::Fact) {
        let id = self.id();
        let Some(exec) = self.execs.get_mut(exec_id) else { return };
        let (state, effect) = exec::advance(exec.state, fact);
        exec.state = state;
        match effect {
            exec::Effect::None => {}
            exec::Effect::ReportStarted { pid } => {
                // A probe is an exec, every few seconds for ever, so execs are not logged at level
                // info.
                tracing::debug!(id, exec_id, pid, "exec started");
                self.publish(TaskEvent::exec_started(&id, exec_id, pid));
            }
            exec::Effect::ReportExit(exit) => {
                exec.process.answer_waiters(exit.into());
                tracing::debug!(id, exec_id, status = exit.status(), "exec exited");
                self.publish(TaskEvent::exit(&id, exec_id, exit));
            }
        }
    }

    /// Ends the other processes of the container after init has exited.
    fn end(&mut self) {
        // If the container owns its pid namespace, the kernel has killed the other processes
        // (`zap_pid_ns_processes`).
        if let Some(runc) = self.runc.clone().filter(|_| !self.owns_pid_namespace) {
            self.leftovers_killed = false;
            self.operations.kill_leftovers(runc, self.id(), self.cgroup.clone());
        }
        // Neither a hanging start of an exec (containerd #10651) nor an exec that lives on may
        // delay init's exit without limit.
        if self.execs.values().any(|exec| exec.state.is_pending()) {
            self.operations.wait_grace(ENDING_GRACE);
        }
    }

    /// Reports init's exit once the exits of all execs have been reported. Called after each
    /// completion.
    pub(super) fn settle(&mut self) {
        let pending = self.execs.values().any(|exec| match self.grace_elapsed {
            // An exec that lives on is reported when it ends.
            true => exec.state == exec::State::Starting,
            false => exec.state.is_pending(),
        });
        if matches!(self.state, State::Ending { .. }) && self.leftovers_killed && !pending {
            self.apply(Fact::Settled);
        }
    }

    /// Publishes an OOM event. `kills` is the cgroup's count of OOM kills; several kills since the
    /// last read of the count cause only one event.
    pub(super) fn oom_killed(&mut self, kills: u64) {
        self.oom_kills_reported = kills;
        tracing::info!(id = self.request.id, kills, "processes of a container were OOM-killed");
        self.oom_event_pending = true;
        // The program can run out of memory before the runtime's start has returned. The start
        // event must be published first, so the OOM event is delayed until then.
        if !matches!(self.state, State::Starting { .. }) {
            self.publish_oom();
        }
    }

    /// Publishes the OOM event, if one is pending.
    fn publish_oom(&mut self) {
        if std::mem::take(&mut self.oom_event_pending) {
            self.publish(TaskEvent::oom(&self.request.id));
        }
    }

    /// Queues a task event for containerd. Never waits.
    pub(super) fn publish(&self, event: TaskEvent) {
        self.shared.publisher.publish(event);
    }
}
