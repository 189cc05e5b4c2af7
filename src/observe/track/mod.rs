//! The tracker: turns the records of a source and the reports of the shim into events.
//!
//! ```text
//!  record             fork, exec and exit from a source; a loss; a scan of /proc
//!  runtime_exec …     the shim has asked its runtime for a process
//!  reaped_exit        the shim's reaper has waited for a process
//!        ▼
//!  target             one container: a method for each record and report
//!   ├ tree            its processes and their parents
//!   ├ early_exits     exits of processes that are not known yet
//!   ├ recent_exits    its last exits, against late and doubled records
//!   ├ exec_table      init and the execs
//!   ├ calls           the calls of the runtime, and the records that wait for their result
//!   ├ scan            the processes of a scan of /proc, until it is complete
//!   └ account         what became of each record
//!        ▼
//!  Effect             an event, or a query that only the caller can answer
//! ```
//!
//! The observer's thread calls it for all targets of one shim. It never reads a clock, a file or a
//! process, never waits, and keeps bounded memory. Sources may lose, double and reorder records.
//! Still no process starts twice, none ends twice or before it started, and every reported process
//! ends.
//!
//! # The account
//!
//! Each [`What::Fork`], [`What::Exec`] and [`What::Exit`] record of a target is counted once: as
//! `delivered` if it became an event, as `lost` if there was no capacity for its process, and as
//! `runtime` in every other case: a process of the runtime (`runc init`), a copy of a record, a
//! record that was received after the exit of its process was reported, an exit that the reaper had
//! reported before. So with the
//! kernel's own `seen` and `lost`, and `runtime` subtracted from `seen`, `seen == delivered + lost`
//! holds if every record was read. Events that the shim derives without a record
//! ([`Emission::derived`]) are not counted.

mod account;
mod calls;
mod early_exits;
mod exec_table;
mod identity;
pub(in crate::observe) mod idle;
mod image;
mod images;
mod nodes;
mod output;
#[cfg(feature = "planted-faults")]
mod planted;
pub mod ports;
mod recent_exits;
mod scan;
mod target;
mod tree;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, mem, sync::Arc};

pub use self::{
    account::RecordOutcome,
    output::{Effect, Emission},
};
use self::{
    exec_table::ReapedExit,
    output::{Output, Stamp},
    target::Target,
};
use crate::{
    model::{Ended, Gap, Process, ProcessId, ProcessKey},
    observe::record::{CallId, Position, Record, TargetId},
};

#[cfg(doc)]
use super::record::What;

/// All targets of one shim, and the effects that its caller has not taken yet.
///
/// There is one output for all targets, because the order of events across targets is the order of
/// their sequence numbers. Each call lends the output to the target that the call is about.
#[derive(Debug)]
pub struct Tracker {
    shim_pid: i32,
    /// A shim has a handful of targets, for which an ordered map is faster than a hashed one.
    targets: BTreeMap<TargetId, Target>,
    output: Output,
    /// Whether the records of the source say where each process comes from.
    knows_provenance: bool,
    #[cfg(feature = "planted-faults")]
    planted: planted::PlantedFault,
}

impl Tracker {
    /// A tracker without targets. The children of the process `shim_pid` are runtimes, or processes
    /// that a runtime has left to the shim.
    #[must_use]
    pub fn new(shim_pid: i32) -> Self {
        let (targets, output) = (BTreeMap::new(), Output::default());
        Self {
            shim_pid,
            targets,
            output,
            knows_provenance: false,
            #[cfg(feature = "planted-faults")]
            planted: planted::PlantedFault::of_environment(),
        }
    }

    /// Sets whether the records of the source have a
    /// [`Provenance`](super::record::Provenance). Then nothing that a container can choose decides
    /// where a process comes from. After a change of the source call
    /// [`may_have_lost`](Self::may_have_lost) for each target too.
    pub fn set_knows_provenance(&mut self, knows_provenance: bool) {
        self.knows_provenance = knows_provenance;
        for target in self.targets.values_mut() {
            target.knows_provenance = knows_provenance;
        }
    }

    /// Begins to observe a target. Does nothing if it is observed already.
    ///
    /// `init` is the pid of a container's first process, which exists and has not run the
    /// container's own program yet. It is `None` for a target that is no container: then no process
    /// is a runtime stage, and every process is reported from its first record.
    pub fn begin(&mut self, id: TargetId, init: Option<i32>) {
        let (shim_pid, knows_provenance) = (self.shim_pid, self.knows_provenance);
        self.targets.entry(id).or_insert_with(|| Target::new(id, shim_pid, init, knows_provenance));
    }

    /// The container's program may run already, without an exec of init: it was restored from a
    /// checkpoint.
    pub fn init_may_run(&mut self, id: TargetId) {
        self.with(id, |target| target.init_may_run = true);
    }

    /// Records of the target may be missing, such as those of an init that has started before the
    /// target was observed.
    pub fn may_have_lost(&mut self, id: TargetId) {
        self.with(id, Target::lost);
    }

    /// Sets the path of the container's runtime, by which its stages are known where the source
    /// does not report mount namespaces.
    pub fn set_runtime_path(&mut self, id: TargetId, path: &[u8]) {
        self.with(id, |target| target.runtime_path = Some(path.into()));
    }

    /// Sets the path below the hierarchy's root of a cgroup that records name by id. A target has
    /// at most 1024 names; beyond that a process is reported without its cgroup.
    pub fn set_cgroup_name(&mut self, id: TargetId, cgroup: u64, name: Arc<str>) {
        self.with(id, |target| target.set_cgroup_name(cgroup, name));
    }

    /// The runtime is about to be called for a container, to make the process of `exec_id` if that
    /// is not `None`. Records of its processes have the number of the call.
    pub fn call_began(
        &mut self,
        id: TargetId,
        call: CallId,
        exec_id: Option<Arc<str>>,
        now_ns: u64,
    ) {
        self.with(id, |target| target.calls.call_began(call, exec_id, now_ns));
    }

    /// A call of the runtime has ended. All records that its processes made before must have been
    /// given to the tracker, and [`exec_started`](Self::exec_started) too if it has made a process.
    pub fn call_ended(&mut self, id: TargetId, call: CallId) {
        self.with(id, |target| target.call_ended(call));
    }

    /// Whether records wait for the result of a call, so that a timer for
    /// [`report_overdue`](Self::report_overdue) is needed.
    #[must_use]
    pub fn has_waiting_records(&self) -> bool {
        self.targets.values().any(|target| target.calls.has_waiting())
    }

    /// Whether a record of this process waits for the result of a call.
    #[must_use]
    pub fn is_waiting(&self, id: TargetId, key: ProcessKey) -> bool {
        self.targets.get(&id).is_some_and(|target| target.calls.has_waiting_record_of(key))
    }

    /// Reports the processes of calls that have lasted for too long, with an unknown origin.
    pub fn report_overdue(&mut self, now_ns: u64) {
        for target in self.targets.values_mut() {
            with_output(&mut self.output, target, |target| target.report_overdue(now_ns));
        }
    }

    /// The shim has started a runtime with this pid, which will make the process of the exec
    /// `exec_id`.
    pub fn runtime_exec(&mut self, id: TargetId, exec_id: &Arc<str>, pid: i32) {
        let process = ProcessId::Exec(exec_id.clone());
        self.with(id, |target| target.exec_table.restart(&process).runtime_pid = Some(pid));
    }

    /// The process of the exec `exec_id` has this pid. If this is called after the first events of
    /// the process, only later events have the exec id.
    pub fn exec_started(&mut self, id: TargetId, exec_id: &Arc<str>, pid: i32) {
        self.with(id, |target| target.exec_started(exec_id, pid));
    }

    /// The shim has pipes of its own for the output of init or of an exec: the
    /// process is done only after these pipes have ended.
    pub fn expect_output_end(&mut self, id: TargetId, process: &ProcessId) {
        self.with(id, |target| target.exec_table.entry(process).expects_output_end = true);
    }

    /// Handles a record of the source. A record of an unknown target is dropped.
    pub fn record(&mut self, record: Record) {
        #[cfg(feature = "planted-faults")]
        let Some(record) = self.planted.record(record) else { return };
        match record {
            Record::Process { target, at_ns, grade, key, provenance, what } => {
                let stamp = Stamp::recorded(at_ns, grade);
                self.with(target, |target| target.record(stamp, key, provenance, what));
            }
            Record::Scan { target, at_ns, step } => {
                self.with(target, |target| target.scan(at_ns, step));
            }
            Record::Lost { target: Some(id), at_ns, count, stage } => {
                // The gap begins at the last record, because the lost records may be as old as that
                // record.
                let Some(target) = self.targets.get_mut(&id) else { return };
                target.lost();
                let from_ns = target.last_ns.min(at_ns);
                let gap = Gap { lost: count, stage, from_ns, to_ns: at_ns };
                self.output.report_gap(Some(id), gap);
                self.output.request_scan(id);
            }
            Record::Lost { target: None, at_ns, count, stage } => {
                let last_ns = self.targets.values().map(|target| target.last_ns).max();
                let from_ns = last_ns.unwrap_or(at_ns).min(at_ns);
                let gap = Gap { lost: count, stage, from_ns, to_ns: at_ns };
                self.output.report_gap(None, gap);
                // The lost records may be of any target.
                for (id, target) in &mut self.targets {
                    target.lost();
                    self.output.request_scan(*id);
                }
            }
            // The pipeline gives records of sockets to `ports`.
            Record::Listen { .. } | Record::Unlisten { .. } | Record::Connected { .. } => {}
        }
    }

    /// Counts the outcome of a socket's record, which the port table has handled, in the account.
    pub fn count_socket_record(&mut self, id: TargetId, at_ns: u64, outcome: RecordOutcome) {
        self.with(id, |target| target.count(outcome, at_ns));
    }

    /// Counts a record as delivered that was counted as silent: its event is reported late.
    pub fn recount_as_delivered(&mut self, id: TargetId) {
        self.with(id, Target::recount);
    }

    /// Finds a process, in any target, that was reported and is not forgotten. Returns it with its
    /// target.
    #[must_use]
    pub fn find(&self, key: ProcessKey) -> Option<(TargetId, &Arc<Process>)> {
        self.targets
            .iter()
            .find_map(|(id, target)| target.reported(key).map(|process| (*id, process)))
    }

    /// The shim's reaper has waited for the process of init or of an exec.
    /// `status` is encoded as in go-runc: 0–255, or 128 + signal.
    ///
    /// If the source has delivered the exit, this only confirms that the process is reaped.
    /// Otherwise this is the exit, and a later record of it is dropped. The record contains more
    /// (code and signal separately, the OOM killer) and was made before the reaper waited: so read
    /// the source until it is empty before this call.
    pub fn reaped_exit(
        &mut self,
        id: TargetId,
        process: &ProcessId,
        pid: i32,
        ended: Ended,
        at_ns: u64,
    ) {
        self.with(id, |target| target.reaped_exit(process, ReapedExit { pid, ended, at_ns }));
    }

    /// The shim's own pipes of init or of an exec have ended.
    pub fn output_ended(&mut self, id: TargetId, process: &ProcessId, at_ns: u64) {
        self.with(id, |target| target.output_ended(process, at_ns));
    }

    /// Answers [`Effect::QueryReaped`]. Does nothing for an unknown process, or if the query is
    /// answered already.
    pub fn confirm_reaped(&mut self, id: TargetId, key: ProcessKey, at_ns: u64) {
        self.with(id, |target| target.confirm_reaped(key, at_ns));
    }

    /// Answers [`Effect::QueryHolders`] with those of `among` that hold one of `outputs`.
    pub fn set_holders(
        &mut self,
        id: TargetId,
        key: ProcessKey,
        holders: &[ProcessKey],
        at_ns: u64,
    ) {
        self.with(id, |target| target.set_holders(key, holders, at_ns));
    }

    /// Reports which processes hold the output of each process that exited `held_after_ns` ago and
    /// is not done; once for each process. If the output is a pipe of the shim's own, the holders
    /// may have to be queried first: then the next call reports them.
    pub fn report_held(&mut self, at_ns: u64, held_after_ns: u64) {
        for target in self.targets.values_mut() {
            with_output(&mut self.output, target, |target| {
                target.report_held(at_ns, held_after_ns)
            });
        }
    }

    /// Whether a process has exited and is not done, so that a timer for
    /// [`report_held`](Self::report_held) is needed.
    #[must_use]
    pub fn awaits_done(&self) -> bool {
        self.targets.values().any(|target| target.awaiting_done > 0)
    }

    /// The living reported processes of one target, or of all, parents before their children.
    #[must_use]
    pub fn snapshot(&self, id: Option<TargetId>) -> Vec<(TargetId, Arc<Process>)> {
        let Some(id) = id else {
            let all = self.living_after(Position::default()).into_iter();
            return all.map(|(position, process)| (position.target, process)).collect();
        };
        let target = self.targets.get(&id).into_iter();
        target.flat_map(Target::living).map(|process| (id, process)).collect()
    }

    /// About how many bytes the known processes need, those that are not done included.
    #[must_use]
    pub fn process_bytes(&self) -> usize {
        self.targets.values().map(Target::process_bytes).sum()
    }

    /// The living reported processes after a position, parents before their children, each with its
    /// own position. A position lasts longer than its process.
    #[must_use]
    pub fn living_after(&self, after: Position) -> Vec<(Position, Arc<Process>)> {
        let mut targets: Vec<_> =
            self.targets.iter().filter(|(key, _)| **key >= after.target).collect();
        targets.sort_unstable_by_key(|(key, _)| **key);
        let mut found = Vec::new();
        for (&target, tracked) in targets {
            let from = if target == after.target { after.serial } else { 0 };
            let living = tracked.living_after(from);
            found.extend(living.map(|(serial, process)| (Position { target, serial }, process)));
        }
        found
    }

    /// Ends a target. `seen_lost` is the kernel's account: how many records it saw and lost; `None`
    /// where the source does not count.
    ///
    /// The processes of a container are all dead by now: lost exits and outstanding dones are
    /// reported. The processes of a target that is no container live on, and nothing is reported
    /// about them. `container.close` is the last event and has the account.
    pub fn end(&mut self, id: TargetId, seen_lost: Option<(u64, u64)>, at_ns: u64) {
        if let Some(mut target) = self.targets.remove(&id) {
            with_output(&mut self.output, &mut target, |target| target.end(seen_lost, at_ns));
        }
    }

    /// Adds an event that the caller has concluded, in order with the events of the tracker.
    pub fn emit(&mut self, emission: Emission) {
        self.output.push(emission);
    }

    /// Adds a query for a scan of a target, as after a loss.
    pub fn request_scan(&mut self, id: TargetId) {
        self.output.request_scan(id);
    }

    /// Removes and returns the effects of all calls since the last time, in order.
    #[must_use]
    pub fn take_effects(&mut self) -> Vec<Effect> {
        #[cfg(feature = "planted-faults")]
        return self.planted.effects(self.output.take());
        #[cfg(not(feature = "planted-faults"))]
        self.output.take()
    }

    fn with(&mut self, id: TargetId, act: impl FnOnce(&mut Target)) {
        if let Some(target) = self.targets.get_mut(&id) {
            with_output(&mut self.output, target, act);
        }
    }
}

/// Runs a method of a target while the target has the tracker's output.
fn with_output(output: &mut Output, target: &mut Target, act: impl FnOnce(&mut Target)) {
    mem::swap(output, &mut target.output);
    act(target);
    mem::swap(output, &mut target.output);
}
