//! Outcomes: facts that are processed after the records about them.

use super::{
    super::message::{Outcome, Serial},
    Actor,
};
use crate::{
    clock::monotonic_ns,
    model::{Backend, Body, Grade, ProcessId, RecordCounts},
};

impl Actor {
    pub(super) fn apply_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Exited { serial, process, exit } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                match &process {
                    // After the exit of init a container is neither idle nor active.
                    ProcessId::Init => self.pipeline.unwatch_idle(id),
                    ProcessId::Exec(exec_id) => self.pipeline.exec_ended(id, exec_id),
                }
                self.pipeline.call_tracker(|tracker, now| {
                    tracker.reaped_exit(id, &process, exit.pid, exit.ended, now);
                });
            }
            Outcome::CallEnded { serial, call } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                self.pipeline.call_tracker(|tracker, _| tracker.call_ended(id, call));
            }
            Outcome::OutputEnded { serial, process } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                self.pipeline.call_tracker(|tracker, now| tracker.output_ended(id, &process, now));
            }
            Outcome::Input { serial } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.input(*id);
                }
            }
            Outcome::Deleted { serial } => self.deleted(serial),
        }
    }

    fn deleted(&mut self, serial: Serial) {
        if let Some(id) = self.targets.remove(&serial) {
            self.pipeline.end(id);
            // The last events of the container need its entry, which has its name, so they are
            // appended before the entry is removed.
            self.append_events();
            self.containers.remove(&id);
        } else if let Some(container) = self.unobserved.remove(&serial) {
            let close = Body::ContainerClose(RecordCounts::default());
            self.push_event(Some(container), monotonic_ns(), Grade::Exact, Backend::Shim, close);
            self.shared.event_log.append(&mut self.events);
        }
    }
}
