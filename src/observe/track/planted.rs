//! Deliberate faults of the tracker, for a test that proves that the tests would find them. Only
//! with the feature `planted-faults`, which no release has.
//!
//! The variable `LOOKOUT_PLANTED_FAULT` of the shim names the fault. It shows in every
//! 40th record or event to which it applies, so that a test must compare all of them.

use std::{env, sync::Arc};

use super::output::{Effect, Emission};
use crate::{
    model::{Body, Ended, Image, Origin, Process},
    observe::record::{Record, TargetId, What},
};

#[cfg(not(debug_assertions))]
compile_error!("the feature planted-faults is for tests only");

/// How many records or events are right between two that are wrong.
const RIGHT_BETWEEN_FAULTS: u64 = 40;

/// The fault of this shim, and what it needs to remember.
#[derive(Debug, Default)]
pub(super) struct PlantedFault {
    fault: String,
    applied: u64,
    image: Option<Arc<Image>>,
    exec_id: Option<Arc<str>>,
    /// The target of the last event, and the one before that in the same pod.
    target: Option<TargetId>,
    other_target: Option<TargetId>,
}

impl PlantedFault {
    pub(super) fn of_environment() -> Self {
        Self { fault: env::var("LOOKOUT_PLANTED_FAULT").unwrap_or_default(), ..Self::default() }
    }

    /// Whether it is the turn of this fault.
    fn is_due(&mut self, fault: &str) -> bool {
        if self.fault != fault {
            return false;
        }
        self.applied += 1;
        self.applied.is_multiple_of(RIGHT_BETWEEN_FAULTS)
    }

    /// A record as the tracker gets it; `None` if the fault drops it.
    pub(super) fn record(&mut self, mut record: Record) -> Option<Record> {
        let Record::Process { what, .. } = &mut record else { return Some(record) };
        match what {
            What::Fork(lineage) => {
                if self.is_due("drop-fork") {
                    return None;
                }
                if let Some(parent) = &mut lineage.parent
                    && self.is_due("parents-parent")
                {
                    parent.pid = lineage.grandparent_pid.unwrap_or(1);
                    parent.start = None;
                }
            }
            What::Exec { image, .. } => {
                if self.is_due("drop-exec") {
                    return None;
                }
                let before = self.image.replace(image.clone());
                if self.is_due("earlier-image") {
                    *image = before.unwrap_or_default();
                }
            }
            What::Exit { wait_status, .. } => {
                if self.is_due("drop-exit") {
                    return None;
                }
                if self.is_due("wrong-code") {
                    *wait_status = wait_status.map(|status| status ^ 0x100);
                }
            }
            What::Alive { .. } => {}
        }
        Some(record)
    }

    /// The effects as the caller gets them.
    pub(super) fn effects(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        effects.into_iter().flat_map(|effect| self.effect(effect)).collect()
    }

    fn effect(&mut self, effect: Effect) -> Vec<Effect> {
        let Effect::Emit(mut emission) = effect else { return vec![effect] };
        let copies = self.change_event(&mut emission);
        vec![Effect::Emit(emission); copies]
    }

    /// Changes an event. Returns how often it is reported.
    fn change_event(&mut self, emission: &mut Emission) -> usize {
        if self.target != emission.target {
            self.other_target = std::mem::replace(&mut self.target, emission.target);
        }
        match &mut emission.body {
            Body::Fork(process) => {
                self.change(process);
                if self.other_target.is_some() && self.is_due("other-container") {
                    emission.target = self.other_target;
                }
                if self.is_due("fork-twice") {
                    return 2;
                }
            }
            Body::Start(process) => {
                self.change(process);
                if self.is_due("start-as-exec") {
                    emission.body = Body::Exec(process.clone());
                }
            }
            Body::Exit { ended, .. } => {
                if let Some(Ended::Signal(signal)) = *ended
                    && self.is_due("signal-as-code")
                {
                    *ended = Some(Ended::Code(128 + signal));
                }
                if self.is_due("no-status") {
                    *ended = None;
                }
                if self.is_due("exit-twice") {
                    return 2;
                }
            }
            Body::Done { .. } if self.is_due("drop-done") => return 0,
            Body::ContainerClose(counts) if self.fault == "wrong-account" => counts.delivered += 1,
            _ => {}
        }
        1
    }

    fn change(&mut self, process: &mut Arc<Process>) {
        let other = process.exec_id.clone().and_then(|exec_id| self.exec_id.replace(exec_id));
        let is_descendant = process.origin == Origin::Descendant;
        if is_descendant && other != process.exec_id && self.is_due("other-exec") {
            Arc::make_mut(process).exec_id = other;
        }
        if is_descendant && self.is_due("no-exec") {
            Arc::make_mut(process).exec_id = None;
        }
        if is_descendant && self.is_due("injected") {
            Arc::make_mut(process).origin = Origin::Injected;
        }
        if self.is_due("hosts-pid") {
            let pid = process.key.pid;
            Arc::make_mut(process).vpid = Some(pid);
        }
    }
}
