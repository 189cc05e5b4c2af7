//! What follows from a change of state.

use super::{Container, STARTING_GRACE};
use crate::{
    publish::TaskEvent,
    task::lifecycle::{
        container::{self, Effect, Input, State},
        exec,
    },
};

impl Container {
    /// Takes what is no request to the lifecycle and performs what follows.
    pub(super) fn apply(&mut self, input: Input) {
        // Only requests are refused.
        let Ok((state, effect)) = container::step(self.state, input) else { return };
        self.state = state;
        self.perform(effect);
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        let id = self.id();
        match effect {
            // The four of requests are acted on where the request is.
            Effect::None | Effect::Proceed | Effect::Abort | Effect::JoinDelete => {}
            Effect::ReportStarted => {
                tracing::info!(id, pid = self.init_pid, "started");
                self.tell(TaskEvent::start(&id, self.init_pid));
                self.tell_oom();
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
                    self.operations.thaw(runc, id);
                }
            }
            Effect::ReportPaused => self.tell(TaskEvent::paused(&id)),
            Effect::ReportResumed => self.tell(TaskEvent::resumed(&id)),
            Effect::ReportExit(exit) => {
                tracing::info!(id, pid = exit.pid, status = exit.status, "exited");
                // Of a start that failed.
                self.tell_oom();
                self.init.tell_exit(exit);
                self.tell(TaskEvent::exit(&id, &id, exit));
            }
            // Told by `deleted`, together with the answers.
            Effect::ReportDeleted => {}
        }
    }

    /// Init has ended: sees to it that everything else of the container ends too.
    pub(super) fn end(&mut self) {
        if let Some(runc) = self.runc.clone().filter(|_| !self.owns_pid_namespace) {
            self.leftovers_killed = false;
            self.operations.kill_leftovers(runc, self.id());
        }
        if self.execs.values().any(|exec| exec.state == exec::State::Starting) {
            self.operations.grace(STARTING_GRACE);
        }
    }

    /// Tells init's exit once every exec's has been told.
    pub(super) fn settle(&mut self) {
        let pending = self.execs.values().any(|exec| exec.state.is_pending());
        if matches!(self.state, State::Ending { .. }) && self.leftovers_killed && !pending {
            self.apply(Input::Settled);
        }
    }

    pub(super) fn oom_killed(&mut self, kills: u64) {
        self.oom_kills_told = kills;
        tracing::info!(id = self.request.id, kills, "out of memory");
        self.oom_untold = true;
        // The user's program can be out of memory before the runtime's start has returned; start is
        // told first.
        if !matches!(self.state, State::Starting { .. }) {
            self.tell_oom();
        }
    }

    fn tell_oom(&mut self) {
        if std::mem::take(&mut self.oom_untold) {
            self.tell(TaskEvent::oom(&self.request.id));
        }
    }

    pub(super) fn tell(&self, event: TaskEvent) {
        self.shared.publisher.publish(event);
    }
}
