//! Exits: from a record, from the shim's reaper, or from the absence of a process.

use std::sync::Arc;

use super::Target;
use crate::{
    model::{Body, Ended, Grade, HOLDERS_NAMED, Parent, Process, ProcessId},
    observe::track::{
        account::RecordOutcome,
        early_exits::EarlyExit,
        exec_table::ReapedExit,
        identity::Identity,
        output::Stamp,
        tree::{Death, Holding, Index, Lookup, PendingExit},
    },
};

impl Target {
    /// Handles an exit record. A record without a status is kept until the shim's reaper reports
    /// the status, if the reaper will.
    pub(super) fn exit(
        &mut self,
        stamp: Stamp,
        identity: Identity,
        wait_status: Option<u32>,
        pending_exit: PendingExit,
    ) -> RecordOutcome {
        let index = match self.tree.find(identity, stamp.at_ns) {
            Lookup::Living(index) => index,
            Lookup::Dead(_) | Lookup::Forgotten => return RecordOutcome::Silent,
            Lookup::Unknown => {
                let grade = stamp.grade;
                self.early_exits.add(EarlyExit { identity, grade, wait_status, pending_exit });
                return RecordOutcome::Silent;
            }
        };
        self.note_record(index, identity, stamp.at_ns);
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            // The process is a stage of the runtime (`runc init`), or was injected and had no exec
            // yet: no event names it.
            self.tree.forget(index, stamp.at_ns);
            self.calls.forget(identity.key);
            return RecordOutcome::Silent;
        }
        // This record is a copy of the one that waits for the reaper.
        if node.pending_exit.as_ref().is_some_and(|earlier| earlier.recorded) {
            return RecordOutcome::Silent;
        }
        if wait_status.is_none() && self.reaper_has_status(index) {
            self.tree.node_mut(index).pending_exit = Some(Box::new(pending_exit));
            return RecordOutcome::Silent;
        }
        self.report_exit(stamp, index, wait_status.map(Ended::from_wait_status), pending_exit);
        RecordOutcome::Reported
    }

    /// Whether the shim's reaper will report the status of this process, if its exit record has
    /// none.
    pub(super) fn reaper_has_status(&self, index: Index) -> bool {
        self.tree.node(index).root && self.init.is_some()
    }

    /// Reports an exit and queries whether the process is reaped.
    fn report_exit(
        &mut self,
        stamp: Stamp,
        index: Index,
        ended: Option<Ended>,
        pending_exit: PendingExit,
    ) {
        self.emit_exit(stamp, index, ended, pending_exit);
        self.output.query_reaped(self.id, self.tree.node(index).key);
        self.holder_exited(index, stamp.at_ns);
    }

    /// Emits an exit, with the OOM kill that caused it before it.
    fn emit_exit(
        &mut self,
        stamp: Stamp,
        index: Index,
        ended: Option<Ended>,
        pending_exit: PendingExit,
    ) {
        let node = self.tree.node_mut(index);
        let Some(process) = node.process.clone() else { return };
        let run_time_ns = node.run_time_ns(stamp.at_ns);
        node.death = Some(Box::new(Death {
            at_ns: stamp.at_ns,
            outputs: pending_exit.outputs,
            reaped: false,
            held_reported: false,
            holding: Holding::NotQueried,
        }));
        self.awaiting_done += 1;
        if pending_exit.oom_killed {
            self.emit(stamp, Body::OomKill(process.clone()));
        }
        let oom_killed = pending_exit.oom_killed;
        self.emit(stamp, Body::Exit { process: process.clone(), ended, oom_killed, run_time_ns });
        if self.tree.node(index).root && process.exec_id.is_some() {
            self.report_left(stamp, index, process);
        }
    }

    /// Reports the processes that an exec has left, if there are any.
    fn report_left(&mut self, stamp: Stamp, index: Index, process: Arc<Process>) {
        let mut left = self.tree.descendants(index);
        left.retain(|&below| {
            let node = self.tree.node(below);
            node.process.is_some() && node.death.is_none()
        });
        if left.is_empty() {
            return;
        }
        left.sort_unstable_by_key(|&below| self.tree.node(below).serial);
        let survivors_count = u32::try_from(left.len()).unwrap_or(u32::MAX);
        let named = left.iter().take(HOLDERS_NAMED);
        let survivors = named.filter_map(|&below| {
            let process = self.tree.node(below).process.as_ref()?;
            Some(Parent { key: process.key, image: process.image.clone() })
        });
        let survivors = survivors.collect();
        let stamp = Stamp::derived(stamp.at_ns, Grade::Late);
        self.emit(stamp, Body::ExecLeft { process, survivors, survivors_count });
    }

    /// Reports the exit of a process that no longer exists, although no record or reaper has
    /// reported its status.
    pub(super) fn report_vanished(&mut self, index: Index, at_ns: u64) {
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            return self.tree.forget(index, at_ns);
        }
        let (stamp, pending_exit) = match node.pending_exit.take().map(|pending| *pending) {
            // The record has waited for a status from the reaper, which did not come.
            Some(pending_exit) if pending_exit.recorded => {
                self.account.recount();
                (Stamp::recorded(pending_exit.at_ns, Grade::Partial), pending_exit)
            }
            _ => (Stamp::derived(at_ns, Grade::Snapshot), PendingExit::unrecorded(at_ns)),
        };
        self.emit_exit(stamp, index, None, pending_exit);
        self.holder_exited(index, stamp.at_ns);
        // No query is needed: that the process no longer exists proves that it is reaped.
        self.mark_reaped(index, at_ns);
    }

    /// Reports the early exit of a process that was just reported, if there is one.
    pub(super) fn report_early_exit(&mut self, index: Index) {
        let Some(EarlyExit { grade, wait_status, pending_exit, .. }) = self.take_early_exit(index)
        else {
            return;
        };
        if wait_status.is_none() && self.reaper_has_status(index) {
            self.tree.node_mut(index).pending_exit = Some(Box::new(pending_exit));
            return;
        }
        self.account.recount();
        let stamp = Stamp::recorded(pending_exit.at_ns, grade);
        self.report_exit(stamp, index, wait_status.map(Ended::from_wait_status), pending_exit);
    }

    /// Removes the early exit of a process that is known now.
    fn take_early_exit(&mut self, index: Index) -> Option<EarlyExit> {
        let node = self.tree.node(index);
        self.early_exits.take(node.identity(), node.last_ns)
    }

    /// Forgets a process that is not reported, if it has an early exit.
    pub(super) fn forget_if_exited(&mut self, index: Index) {
        if let Some(early_exit) = self.take_early_exit(index) {
            self.tree.forget(index, early_exit.pending_exit.at_ns);
        }
    }

    /// The shim's reaper has waited for a process: confirms that a process with a reported exit is
    /// reaped, or reports its exit.
    pub(in crate::observe::track) fn reaped_exit(
        &mut self,
        process: &ProcessId,
        reaped: ReapedExit,
    ) {
        let ReapedExit { pid, ended, at_ns } = reaped;
        self.last_ns = self.last_ns.max(at_ns);
        // The process was reported and is done already, as in `exec_started`.
        if self.exec_table.find(process).is_none() && self.tree.has_forgotten(pid) {
            return;
        }
        let entry = self.exec_table.entry(process);
        entry.is_resolved = true;
        let root = entry.root;
        let Some(index) = root.or_else(|| self.tree.find_living(pid)) else {
            if !self.tree.has_forgotten(pid) {
                // The reaper was faster than the source. The report is kept until the process is
                // known.
                self.exec_table.entry(process).reaped = Some(reaped);
            }
            return;
        };
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            // The exec failed before it ran its program: only stages of the runtime ran, and no
            // event names the process.
            return self.tree.forget(index, at_ns);
        }
        if node.death.is_none() {
            let (stamp, pending_exit) = match node.pending_exit.take().map(|pending| *pending) {
                // The record has the time and whether the OOM killer killed the process; the reaper
                // has the status.
                Some(pending_exit) if pending_exit.recorded => {
                    self.account.recount();
                    (Stamp::recorded(pending_exit.at_ns, Grade::Late), pending_exit)
                }
                _ => (Stamp::derived(at_ns, Grade::Late), PendingExit::unrecorded(at_ns)),
            };
            self.report_exit(stamp, index, Some(ended), pending_exit);
        }
        self.mark_reaped(index, at_ns);
    }

    /// Handles what the reaper reported before the records of the process were read.
    pub(super) fn report_early_reap(&mut self, index: Index) {
        let pid = self.tree.node(index).key.pid;
        let Some(entry) = self.exec_table.entry_of_root_mut(index) else { return };
        if entry.reaped.is_none_or(|reaped| reaped.pid != pid) {
            return;
        }
        if let Some(reaped) = entry.reaped.take() {
            let process = entry.process.clone();
            self.reaped_exit(&process, reaped);
        }
    }
}
