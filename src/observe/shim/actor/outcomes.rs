//! Outcomes: facts that are processed after the records about them.

use super::{
    super::message::{Outcome, Serial},
    Actor,
};
use crate::{
    clock::monotonic_ns,
    model::{Backend, Body, Counts, Grade},
};

impl Actor {
    pub(super) fn apply_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Exited { serial, exec_id, exit } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                match exec_id.as_str() {
                    // Without init a container is neither idle nor active.
                    "" => self.pipeline.unwatch_idle(id),
                    exec_id => self.pipeline.exec_ended(id, exec_id),
                }
                self.pipeline.call_tracker(|tracker, now| {
                    tracker.reaped_exit(id, &exec_id, exit.pid, exit.ended, now);
                });
            }
            Outcome::OutputEnded { serial, exec_id } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                self.pipeline.call_tracker(|tracker, now| tracker.output_ended(id, &exec_id, now));
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
            // published before the entry is removed.
            self.publish();
            self.containers.remove(&id);
        } else if let Some(container) = self.unobserved.remove(&serial) {
            let close = Body::ContainerClose(Counts::default());
            self.push(Some(container), monotonic_ns(), Grade::Exact, Backend::Shim, close);
            self.shared.event_log.publish(&mut self.events);
        }
    }
}
