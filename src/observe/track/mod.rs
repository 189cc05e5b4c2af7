//! The tracker: turns what sources saw, and what the shim knows, into what is told.
//!
//! ```text
//!  record           fork, exec, exit as a source saw them; a loss; a look at /proc
//!  runtime_exec …   what the shim asked its runtime for
//!  reaped_exit      what the shim's reaper got
//!        ▼
//!  target           one container: one function for each thing that can happen
//!   ├ tree          its processes, and who descends from whom
//!   ├ past          its last dead
//!   ├ calls         init and the execs
//!   ├ whose         the user's, or the runtime's?
//!   ├ done          when a dead process is done
//!   └ look          what a look at /proc found that no record had said
//!        ▼
//!  Effect           an event, or a question that only the outside can answer
//! ```
//!
//! Called by the observer's thread, for all targets of one shim. It never reads a clock, a file or
//! a process, never waits, and keeps bounded memory. Sources may lose, double and reorder records:
//! no process is told twice as started, none ends twice or before it started, and every told one
//! ends.
//!
//! # The account
//!
//! Each [`What::Fork`], [`What::Exec`] and [`What::Exit`] record of a target is counted once: as
//! `delivered` where an event was told of it, as `lost` where there was no room for its process,
//! and as `runtime` in every other case: a stage of the runtime, a fork of something injected that
//! had not run a program of its own yet, a copy of a record, a record that came after its process's
//! exit was told, an exit that the reaper had told already. So with the kernel's own `seen` and
//! `lost` (`seen` less `runtime`) `seen == delivered + lost` holds when every record was read.
//! Events that the shim concludes by itself ([`Emission::derived`]) are not in it.

mod attribution;
mod done;
mod exec_table;
pub(in crate::observe) mod idle;
pub mod ports;
mod recent_exits;
mod resync;
mod target;
mod tree;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

pub use self::target::Outcome;
use self::target::Target;
use crate::model::{Body, FileId, Gap, Grade, Process, ProcessKey};
use crate::observe::record::{Record, TargetId};

#[cfg(doc)]
use super::record::What;

/// Everything that is watched by one shim.
#[derive(Debug)]
pub struct Tracker {
    shim_pid: i32,
    /// A handful: ordered is quicker than hashed.
    targets: BTreeMap<TargetId, Target>,
}

/// What comes of a record or a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// An event.
    Emit(Emission),
    /// A process is dead: say by [`Tracker::reaped`] when its whole thread group is dead and
    /// reaped, by a pidfd or by its absence. Ask it in batches; nothing waits for the answer but
    /// its done.
    AskReaped {
        /// Of which target.
        target: TargetId,
        /// Who.
        key: ProcessKey,
    },
    /// Say by [`Tracker::holders`] which of these have one of these files open.
    AskHolders {
        /// Of which target.
        target: TargetId,
        /// Attribution output it is.
        key: ProcessKey,
        /// What its stdout and stderr were.
        outputs: [Option<FileId>; 2],
        /// Its living descendants.
        among: Vec<ProcessKey>,
    },
    /// A look at `/proc` is needed: give the records of one from [`What::ScanBegan`] to
    /// [`What::ScanEnded`]. Read the source until it is empty between the look and `ScanEnded`: an
    /// exit that it still has says more than an absence.
    Look {
        /// Of which target.
        target: TargetId,
    },
}

/// An event that has no seq yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// Attribution; `None` for what concerns every target.
    pub target: Option<TargetId>,
    /// `CLOCK_MONOTONIC` in nanoseconds, as the event is to carry it.
    pub at_ns: u64,
    /// How far it can be trusted.
    pub grade: Grade,
    /// Whether the shim concluded it (done, what its reaper said, what a look found), and no record
    /// of the source's own says it.
    pub derived: bool,
    /// What happened.
    pub body: Body,
}

impl Tracker {
    /// Watches nothing yet. `shim_pid`: the shim's own; its children are calls of the runtime, or
    /// processes that such a call left to it.
    #[must_use]
    pub fn new(shim_pid: i32) -> Self {
        Self { shim_pid, targets: BTreeMap::new() }
    }

    /// A target is watched from here on; does nothing for one that is already.
    ///
    /// `init` is the pid of a container's first process, which is made and has not run the user's
    /// program. `None` for what is no container: then nothing is a stage of a runtime, and every
    /// process is told from its first record.
    pub fn begin(&mut self, id: TargetId, init: Option<i32>) {
        let shim_pid = self.shim_pid;
        self.targets.entry(id).or_insert_with(|| Target::new(id, shim_pid, init));
    }

    /// The path of the container's runtime, which tells its stages where the source cannot see
    /// mounts.
    pub fn runtime_path(&mut self, id: TargetId, path: &[u8]) {
        self.with(id, |target| target.runtime_path = Some(path.into()));
    }

    /// The path under the hierarchy's root of a cgroup that records name by id. At most
    /// 1024 a target; beyond, a process there is told without its cgroup.
    pub fn set_cgroup_name(&mut self, id: TargetId, cgroup: u64, name: Arc<str>) {
        self.with(id, |target| target.set_cgroup_name(cgroup, name));
    }

    /// The runtime's child `pid` makes the process of this exec.
    pub fn runtime_exec(&mut self, id: TargetId, exec_id: &str, pid: i32) {
        self.with(id, |target| target.calls.anew(exec_id).runtime_pid = pid);
    }

    /// The process of this exec has this pid. May come after its first events; what comes later has
    /// the exec id.
    pub fn exec_started(&mut self, id: TargetId, exec_id: &str, pid: i32) {
        self.with(id, |target| target.exec_started(exec_id, pid));
    }

    /// The shim has pipes of its own for init (`exec_id` empty) or an exec: done waits for their
    /// end.
    pub fn expects_output_end(&mut self, id: TargetId, exec_id: &str) {
        self.with(id, |target| target.calls.entry(exec_id).expects_output_end = true);
    }

    /// Something was seen. A record of an unknown target is dropped.
    pub fn record(&mut self, record: Record, effects: &mut Vec<Effect>) {
        match record {
            Record::Process { target, at_ns, grade, key, what } => {
                if let Some(target) = self.targets.get_mut(&target) {
                    target.record(at_ns, grade, key, what, effects);
                }
            }
            Record::Lost { target: Some(id), at_ns, count, stage } => {
                let Some(target) = self.targets.get_mut(&id) else { return };
                let gap =
                    Gap { lost: count, stage, from_ns: target.last_ns.min(at_ns), to_ns: at_ns };
                effects.push(gap_told(Some(id), gap));
                effects.push(Effect::Look { target: id });
            }
            // Ports are not the tracker's affair: see `ports`.
            Record::Listen { .. } | Record::Unlisten { .. } | Record::Connected { .. } => {}
            Record::Lost { target: None, at_ns, count, stage } => {
                let last_ns =
                    self.targets.values().map(|target| target.last_ns).max().unwrap_or(at_ns);
                effects.push(gap_told(
                    None,
                    Gap { lost: count, stage, from_ns: last_ns.min(at_ns), to_ns: at_ns },
                ));
                let mut ids: Vec<TargetId> = self.targets.keys().copied().collect();
                ids.sort_unstable();
                effects.extend(ids.into_iter().map(|target| Effect::Look { target }));
            }
        }
    }

    /// A record of a socket was handled elsewhere: counts what became of it, for the account.
    pub fn socket(
        &mut self,
        id: TargetId,
        at_ns: u64,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        self.with(id, |target| target.count(outcome, at_ns, effects));
    }

    /// A record that was counted as silent is told after all.
    pub fn told_after_all(&mut self, id: TargetId) {
        self.with(id, Target::recount);
    }

    /// A process that was told and is not forgotten, of whatever target.
    #[must_use]
    pub fn find(&self, key: ProcessKey) -> Option<(TargetId, &Arc<Process>)> {
        self.targets.iter().find_map(|(id, target)| target.told(key).map(|process| (*id, process)))
    }

    /// The shim's reaper has the process of init (`exec_id` empty) or of an exec: `status` is
    /// go-runc's, 0–255 or 128 + signal.
    ///
    /// Where the source has told the exit, this only says that it is reaped. Where it has not, this
    /// is the exit, and the source's record of it is dropped when it comes. The source's record
    /// says more (code and signal apart, the OOM killer) and was made before: so read the source
    /// until it is empty before this call.
    pub fn reaped_exit(
        &mut self,
        id: TargetId,
        exec_id: &str,
        pid: i32,
        status: u32,
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.with(id, |target| target.reaped_exit(exec_id, (pid, status, at_ns), effects));
    }

    /// The shim's own pipes of init or of an exec came to their end.
    pub fn output_ended(
        &mut self,
        id: TargetId,
        exec_id: &str,
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.with(id, |target| target.output_ended(exec_id, at_ns, effects));
    }

    /// Answers [`Effect::AskReaped`]. Said too often or of an unknown process it does nothing.
    pub fn reaped(&mut self, id: TargetId, key: ProcessKey, at_ns: u64, effects: &mut Vec<Effect>) {
        self.with(id, |target| target.reaped(key, at_ns, effects));
    }

    /// Answers [`Effect::AskHolders`]: those of `among` that hold one of the files.
    pub fn holders(
        &mut self,
        id: TargetId,
        key: ProcessKey,
        holders: &[ProcessKey],
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.with(id, |target| target.holders(key, holders, at_ns, effects));
    }

    /// Tells once of each process that is dead for `held_after_ns` and not done who holds its
    /// output. For pipes of the shim's own this may ask first; then the next call tells.
    pub fn overdue(&mut self, at_ns: u64, held_after_ns: u64, effects: &mut Vec<Effect>) {
        for target in self.targets.values_mut() {
            target.overdue(at_ns, held_after_ns, effects);
        }
    }

    /// Whether [`overdue`](Self::overdue) has anything to wait for: without it, no timer is needed.
    #[must_use]
    pub fn awaits_done(&self) -> bool {
        self.targets.values().any(|target| target.undone > 0)
    }

    /// Who is alive and told, of one target or of all, parents before their children.
    #[must_use]
    pub fn snapshot(&self, id: Option<TargetId>) -> Vec<(TargetId, Arc<Process>)> {
        let mut targets: Vec<_> =
            self.targets.iter().filter(|(key, _)| id.is_none_or(|id| id == **key)).collect();
        targets.sort_unstable_by_key(|(key, _)| **key);
        targets
            .into_iter()
            .flat_map(|(key, target)| target.living().map(|process| (*key, process)))
            .collect()
    }

    /// Nothing more comes of a target. `seen_lost` is the kernel's account.
    ///
    /// Of a container, whose processes are all dead now: exits that nobody saw and dones that still
    /// wait are told. Of other targets they are not. `container.close` is told last, with the
    /// account.
    pub fn end(
        &mut self,
        id: TargetId,
        seen_lost: Option<(u64, u64)>,
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(target) = self.targets.remove(&id) {
            target.end(seen_lost, at_ns, effects);
        }
    }

    fn with(&mut self, id: TargetId, act: impl FnOnce(&mut Target)) {
        if let Some(target) = self.targets.get_mut(&id) {
            act(target);
        }
    }
}

fn gap_told(target: Option<TargetId>, gap: Gap) -> Effect {
    Effect::Emit(Emission {
        target,
        at_ns: gap.to_ns,
        grade: Grade::Exact,
        derived: true,
        body: Body::Gap(gap),
    })
}
