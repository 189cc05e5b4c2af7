//! One target: a container, or a process tree without one.
//!
//! Each record and each report of the shim is one method here. It changes the target's state and
//! adds what follows to the effects.

use std::{collections::HashMap, sync::Arc};

use super::{
    Effect, Emission,
    attribution::{Attribution, ExecFacts},
    exec_table::ExecTable,
    gap_effect,
    resync::{Scan, is_other_exec},
    tree::{Death, Holding, Index, Lookup, Node, PendingExit, Tree},
};
use crate::{
    model::{
        Body, Counts, Ended, Gap, Grade, Image, Lineage, Origin, Parent, Process, ProcessKey,
        Stage, Unknown,
    },
    observe::record::{TargetId, What},
};

/// How many early exits of one target are kept. Beyond it the oldest is dropped: if the fork of its
/// process is still received, the process counts as living until the next scan.
const EARLY_EXITS_MAX: usize = 64;

/// How many nested cgroups of one target have a name.
const CGROUPS_MAX: usize = 1024;

/// While the tree is full: after how many more lost records another gap is reported.
const LOST_PER_GAP: u64 = 1024;

#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: TargetId,
    pub(super) shim_pid: i32,
    /// The pid of the container's init; `None` where the target is no container.
    pub(super) init: Option<i32>,
    pub(super) init_started: bool,
    pub(super) runtime_path: Option<Box<[u8]>>,
    pub(super) tree: Tree,
    pub(super) exec_table: ExecTable,
    pub(super) scan: Scan,
    /// The exited processes whose output other processes hold, oldest first.
    pub(super) output_held: Vec<Index>,
    /// How many processes have a reported exit and are not done.
    pub(super) awaiting_done: usize,
    /// The latest time of any record, where the next gap begins.
    pub(super) last_ns: u64,
    cgroups: HashMap<u64, Arc<str>>,
    early_exits: Vec<EarlyExit>,
    account: Account,
    /// The image of a process whose exec was not seen. Shared, because a fork storm needs many.
    unseen_image: Arc<Image>,
}

/// An exit that was received before its process is known.
#[derive(Debug)]
struct EarlyExit {
    key: ProcessKey,
    grade: Grade,
    wait_status: Option<u32>,
    pending_exit: PendingExit,
}

#[derive(Debug, Default)]
struct Account {
    delivered: u64,
    runtime: u64,
    no_capacity: u64,
    /// How many of `no_capacity` no gap has reported yet.
    unreported: u64,
    /// When the first of them was lost; 0 while the tree has capacity.
    since_ns: u64,
}

/// The outcome of one record, for the account of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It became an event.
    Reported,
    /// It became no event: it is about a process of the runtime, or about a known fact.
    Silent,
    /// The tracker or the port table had no capacity for what it is about.
    NoRoom,
}

/// What an emission has besides its body: its time, its grade and whether it was derived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at_ns: u64,
    pub(super) grade: Grade,
    pub(super) derived: bool,
}

/// The image of an exec, or of a process that a scan read.
#[derive(Debug, Clone)]
pub(super) struct NewImage {
    pub(super) lineage: Lineage,
    pub(super) image: Arc<Image>,
    pub(super) cgroup: Option<u64>,
    pub(super) in_host_mounts: Option<bool>,
}

impl Target {
    pub(super) fn new(id: TargetId, shim_pid: i32, init: Option<i32>) -> Self {
        let mut exec_table = ExecTable::default();
        if let Some(init) = init {
            exec_table.entry("").own_pid = init;
        }
        Self {
            id,
            shim_pid,
            init,
            init_started: false,
            runtime_path: None,
            tree: Tree::default(),
            exec_table,
            scan: Scan::default(),
            output_held: Vec::new(),
            awaiting_done: 0,
            last_ns: 0,
            cgroups: HashMap::new(),
            early_exits: Vec::new(),
            account: Account::default(),
            unseen_image: Arc::new(Image { unknown: Some(Unknown::NotSeen), ..Image::default() }),
        }
    }

    pub(super) fn set_cgroup_name(&mut self, cgroup: u64, name: Arc<str>) {
        if self.cgroups.len() < CGROUPS_MAX || self.cgroups.contains_key(&cgroup) {
            self.cgroups.insert(cgroup, name);
        }
    }

    pub(super) fn record(
        &mut self,
        at_ns: u64,
        grade: Grade,
        key: ProcessKey,
        what: What,
        effects: &mut Vec<Effect>,
    ) {
        self.last_ns = self.last_ns.max(at_ns);
        let stamp = Stamp { at_ns, grade, derived: false };
        let outcome = match what {
            What::Fork(lineage) => self.fork(stamp, key, lineage, effects),
            What::Exec { lineage, image, cgroup, in_host_mounts } => {
                self.exec(stamp, key, &NewImage { lineage, image, cgroup, in_host_mounts }, effects)
            }
            What::Exit { wait_status, oom_killed, outputs } => {
                let pending_exit = PendingExit { at_ns, oom_killed, outputs, recorded: true };
                self.exit(stamp, key, wait_status, pending_exit, effects)
            }
            What::Alive { lineage, image, cgroup } => {
                return self.scan_process(
                    stamp,
                    key,
                    NewImage { lineage, image, cgroup, in_host_mounts: None },
                    effects,
                );
            }
            What::ScanBegan => return self.scan_began(),
            What::ScanEnded => return self.scan_ended(stamp, effects),
        };
        self.count(outcome, at_ns, effects);
    }

    pub(super) fn count(&mut self, outcome: Outcome, at_ns: u64, effects: &mut Vec<Effect>) {
        match outcome {
            Outcome::Reported => self.account.delivered += 1,
            Outcome::Silent => self.account.runtime += 1,
            Outcome::NoRoom => {
                self.account.no_capacity += 1;
                self.count_lost(at_ns, effects);
            }
        }
    }

    pub(super) fn recount(&mut self) {
        self.account.recount();
    }

    /// A process that was reported and is not forgotten, alive or dead.
    pub(super) fn reported(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        match self.tree.find(key, u64::MAX) {
            Lookup::Living(index) | Lookup::Dead(index) => self.tree.node(index).process.as_ref(),
            Lookup::Forgotten | Lookup::Unknown => None,
        }
    }

    fn fork(
        &mut self,
        stamp: Stamp,
        key: ProcessKey,
        lineage: Lineage,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match self.tree.find(key, stamp.at_ns) {
            Lookup::Living(index) => {
                let node = self.tree.node_mut(index);
                // Without start times, only a later fork with the same pid shows that the pid was
                // reused.
                let reused = (key.start_ticks == 0 || node.key.start_ticks == 0)
                    && stamp.at_ns > node.last_ns
                    && (node.forked || node.started);
                if !reused {
                    node.forked = true;
                    return Outcome::Silent;
                }
            }
            Lookup::Dead(_) | Lookup::Forgotten => return Outcome::Silent,
            Lookup::Unknown => {}
        }
        self.end_previous(key.pid, stamp.at_ns, effects);
        let parent = self.tree.find_parent(lineage);
        let Some(index) = self.tree.add(key, lineage, parent, stamp.at_ns) else {
            return Outcome::NoRoom;
        };
        self.tree.node_mut(index).forked = true;
        self.capacity_regained(stamp.at_ns, effects);
        let reported_parent = parent.and_then(|parent| self.tree.node(parent).process.clone());
        let forgotten_parent = match self.init {
            Some(_) => self.tree.forgotten_parent_exec(lineage),
            None => Some(None),
        };
        let process = match (reported_parent, forgotten_parent) {
            (Some(parent), _) => Process {
                key,
                vpid: lineage.vpid,
                parent_pid: lineage.parent_pid,
                parent: Some(Parent { key: parent.key, image: parent.image.clone() }),
                image: parent.image.clone(),
                origin: Origin::Descendant,
                exec_id: parent.exec_id.clone(),
                cgroup: parent.cgroup.clone(),
            },
            (None, Some(exec_id)) => Process {
                key,
                vpid: lineage.vpid,
                parent_pid: lineage.parent_pid,
                parent: None,
                image: self.unseen_image.clone(),
                origin: Origin::Descendant,
                exec_id,
                cgroup: None,
            },
            (None, None) => {
                self.forget_if_exited(index);
                return Outcome::Silent;
            }
        };
        let process = Arc::new(process);
        self.tree.node_mut(index).process = Some(process.clone());
        self.emit(stamp, Body::Fork(process), effects);
        self.report_early_exit(index, effects);
        Outcome::Reported
    }

    fn exec(
        &mut self,
        stamp: Stamp,
        key: ProcessKey,
        new: &NewImage,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match self.tree.find(key, stamp.at_ns) {
            Lookup::Living(index) => {
                let node = self.tree.node(index);
                if node.image_ns.is_some_and(|image_ns| stamp.at_ns <= image_ns) {
                    return Outcome::Silent;
                }
                self.note_record(index, key, stamp.at_ns);
                self.run_image(stamp, index, new, effects)
            }
            Lookup::Dead(_) | Lookup::Forgotten => Outcome::Silent,
            Lookup::Unknown => {
                self.end_previous(key.pid, stamp.at_ns, effects);
                let parent = self.tree.find_parent(new.lineage);
                let Some(index) = self.tree.add(key, new.lineage, parent, stamp.at_ns) else {
                    return Outcome::NoRoom;
                };
                self.capacity_regained(stamp.at_ns, effects);
                self.run_image(stamp, index, new, effects)
            }
        }
    }

    /// A living process runs a new image. Reports it, unless the process is a runtime stage.
    fn run_image(
        &mut self,
        stamp: Stamp,
        index: Index,
        new: &NewImage,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let node = self.tree.node(index);
        let (key, forked, new_here) = (node.key, node.forked, node.process.is_none());
        let (origin, exec_id, birth_known) = if let Some(reported) = &node.process {
            (reported.origin, reported.exec_id.clone(), forked && !node.started)
        } else {
            let parent = self.tree.parent(index).or_else(|| self.tree.find_parent(new.lineage));
            let facts = ExecFacts {
                key,
                lineage: new.lineage,
                image: &new.image,
                in_host_mounts: new.in_host_mounts,
            };
            match self.attribute(facts, Some(index), parent) {
                Attribution::Stage => {
                    self.tree.node_mut(index).image_ns = Some(stamp.at_ns);
                    self.forget_if_exited(index);
                    return Outcome::Silent;
                }
                Attribution::User { origin, exec_id, root } => {
                    if let Some(parent) = parent {
                        self.tree.adopt(index, parent);
                    }
                    if root {
                        self.set_root(index, origin, exec_id.as_deref());
                    }
                    (origin, exec_id, forked || root)
                }
            }
        };
        let process = self.process_of(index, new, origin, exec_id);
        let node = self.tree.node_mut(index);
        node.process = Some(process.clone());
        node.started = true;
        node.image_ns = Some(stamp.at_ns);
        let body = if birth_known || (stamp.derived && new_here) {
            Body::Start(process)
        } else {
            Body::Exec(process)
        };
        self.emit(stamp, body, effects);
        self.report_early_exit(index, effects);
        self.report_early_reap(index, effects);
        Outcome::Reported
    }

    /// Reports what a scan shows and no record had: a process or an image.
    pub(super) fn apply_scanned(
        &mut self,
        stamp: Stamp,
        key: ProcessKey,
        new: &NewImage,
        effects: &mut Vec<Effect>,
    ) -> Option<Index> {
        match self.tree.find(key, stamp.at_ns) {
            Lookup::Living(index) => {
                let node = self.tree.node(index);
                let news = node.image_ns.is_none_or(|image_ns| image_ns < stamp.at_ns)
                    && node
                        .process
                        .as_ref()
                        .is_none_or(|reported| is_other_exec(&reported.image, &new.image));
                self.note_record(index, key, stamp.at_ns);
                if news {
                    self.run_image(stamp, index, new, effects);
                }
                Some(index)
            }
            Lookup::Dead(_) | Lookup::Forgotten => None,
            Lookup::Unknown => {
                // Its exit was read before the scan was complete: adding it now would make a dead
                // process live until the next scan.
                if self.early_exits.iter().any(|early_exit| {
                    same(early_exit.key, key) && early_exit.pending_exit.at_ns >= stamp.at_ns
                }) {
                    return None;
                }
                self.end_previous(key.pid, stamp.at_ns, effects);
                let parent = self.tree.find_parent(new.lineage);
                let Some(index) = self.tree.add(key, new.lineage, parent, stamp.at_ns) else {
                    self.count_lost(stamp.at_ns, effects);
                    return None;
                };
                self.capacity_regained(stamp.at_ns, effects);
                self.run_image(stamp, index, new, effects);
                self.tree.has(index).then_some(index)
            }
        }
    }

    fn exit(
        &mut self,
        stamp: Stamp,
        key: ProcessKey,
        wait_status: Option<u32>,
        pending_exit: PendingExit,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let index = match self.tree.find(key, stamp.at_ns) {
            Lookup::Living(index) => index,
            Lookup::Dead(_) | Lookup::Forgotten => return Outcome::Silent,
            Lookup::Unknown => {
                if self.early_exits.iter().any(|early_exit| same(early_exit.key, key)) {
                    return Outcome::Silent;
                }
                if self.early_exits.len() >= EARLY_EXITS_MAX {
                    self.early_exits.remove(0);
                }
                self.early_exits.push(EarlyExit {
                    key,
                    grade: stamp.grade,
                    wait_status,
                    pending_exit,
                });
                return Outcome::Silent;
            }
        };
        self.note_record(index, key, stamp.at_ns);
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            self.tree.forget(index, stamp.at_ns);
            return Outcome::Silent;
        }
        if node.pending_exit.is_some_and(|earlier| earlier.recorded) {
            return Outcome::Silent;
        }
        if wait_status.is_none() && self.reaper_has_status(index) {
            self.tree.node_mut(index).pending_exit = Some(pending_exit);
            return Outcome::Silent;
        }
        self.report_exit(
            stamp,
            index,
            wait_status.map(Ended::from_wait_status),
            pending_exit,
            effects,
        );
        Outcome::Reported
    }

    /// Whether the shim's reaper will report the status of this process, where a record has none.
    pub(super) fn reaper_has_status(&self, index: Index) -> bool {
        self.tree.node(index).root && self.init.is_some()
    }

    /// Reports an exit, with the OOM kill that caused it before it.
    pub(super) fn report_exit(
        &mut self,
        stamp: Stamp,
        index: Index,
        ended: Option<Ended>,
        pending_exit: PendingExit,
        effects: &mut Vec<Effect>,
    ) {
        let node = self.tree.node_mut(index);
        let Some(process) = node.process.clone() else { return };
        let (key, holds) = (node.key, node.holds);
        node.death = Some(Death {
            at_ns: stamp.at_ns,
            outputs: pending_exit.outputs,
            reaped: false,
            held_reported: false,
            holding: Holding::NotQueried,
        });
        self.awaiting_done += 1;
        if pending_exit.oom_killed {
            self.emit(stamp, Body::OomKill(process.clone()), effects);
        }
        self.emit(
            stamp,
            Body::Exit { process, ended, oom_killed: pending_exit.oom_killed },
            effects,
        );
        effects.push(Effect::AskReaped { target: self.id, key });
        if holds > 0 {
            self.holder_exited(index, stamp.at_ns, effects);
        }
    }

    /// Reports the exit of a process of which only the absence is known.
    pub(super) fn report_vanished(&mut self, index: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            return self.tree.forget(index, at_ns);
        }
        let pending_exit = node.pending_exit.take();
        let (stamp, pending_exit) = match pending_exit {
            Some(pending_exit) if pending_exit.recorded => {
                self.account.recount();
                (
                    Stamp { at_ns: pending_exit.at_ns, grade: Grade::Partial, derived: false },
                    pending_exit,
                )
            }
            _ => {
                let pending_exit =
                    PendingExit { at_ns, oom_killed: false, outputs: [None; 2], recorded: false };
                (Stamp { at_ns, grade: Grade::Snapshot, derived: true }, pending_exit)
            }
        };
        let before = effects.len();
        self.report_exit(stamp, index, None, pending_exit, effects);
        // Its absence from /proc proves that it is reaped: the query would cost a pidfd for
        // nothing.
        let target = self.id;
        let key = self.tree.node(index).key;
        if let Some(query) =
            effects[before..].iter().position(|effect| *effect == Effect::AskReaped { target, key })
        {
            effects.remove(before + query);
        }
        self.mark_reaped(index, at_ns, effects);
    }

    /// A new process has the pid of a living one, whose exit was therefore lost.
    fn end_previous(&mut self, pid: i32, at_ns: u64, effects: &mut Vec<Effect>) {
        if let Some(old) = self.tree.find_living(pid) {
            self.report_vanished(old, at_ns, effects);
        }
    }

    pub(super) fn reaped_exit(
        &mut self,
        exec_id: &str,
        reaped: (i32, u32, u64),
        effects: &mut Vec<Effect>,
    ) {
        let (pid, status, at_ns) = reaped;
        self.last_ns = self.last_ns.max(at_ns);
        if self.exec_table.find(exec_id).is_none() && self.tree.has_forgotten(pid) {
            return;
        }
        let entry = self.exec_table.entry(exec_id);
        entry.is_resolved = true;
        let root = entry.root;
        let Some(index) = root.or_else(|| self.tree.find_living(pid)) else {
            if !self.tree.has_forgotten(pid) {
                self.exec_table.entry(exec_id).reaped = Some(reaped);
            }
            return;
        };
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            // It failed before it ran the user's program: only stages ran, and no event names it.
            return self.tree.forget(index, at_ns);
        }
        if node.death.is_none() {
            let ended = Some(Ended::from_go_runc(status));
            match node.pending_exit.take() {
                Some(pending_exit) if pending_exit.recorded => {
                    self.account.recount();
                    let stamp =
                        Stamp { at_ns: pending_exit.at_ns, grade: Grade::Late, derived: false };
                    self.report_exit(stamp, index, ended, pending_exit, effects);
                }
                _ => {
                    let pending_exit = PendingExit {
                        at_ns,
                        oom_killed: false,
                        outputs: [None; 2],
                        recorded: false,
                    };
                    self.report_exit(
                        Stamp { at_ns, grade: Grade::Late, derived: true },
                        index,
                        ended,
                        pending_exit,
                        effects,
                    );
                }
            }
        }
        self.mark_reaped(index, at_ns, effects);
    }

    pub(super) fn exec_started(&mut self, exec_id: &str, pid: i32) {
        if self.tree.find_living(pid).is_none() && self.tree.has_forgotten(pid) {
            return;
        }
        let entry = self.exec_table.entry(exec_id);
        entry.own_pid = pid;
        if entry.root.is_some() {
            return;
        }
        let exec_id = entry.exec_id.clone();
        let Some(index) = self.tree.find_living(pid) else { return };
        let Some(reported) = self.tree.node(index).process.clone() else { return };
        if reported.exec_id.is_some() || !matches!(reported.origin, Origin::Exec | Origin::Injected)
        {
            return;
        }
        let entry = self.exec_table.entry(&exec_id);
        entry.root = Some(index);
        entry.is_resolved = true;
        self.tree.node_mut(index).root = true;
        for index in self.tree.descendants(index) {
            if let Some(process) = &mut self.tree.node_mut(index).process {
                Arc::make_mut(process).exec_id = Some(exec_id.clone());
            }
        }
        let own = Process { origin: Origin::Exec, exec_id: Some(exec_id), ..(*reported).clone() };
        self.tree.node_mut(index).process = Some(Arc::new(own));
    }

    pub(super) fn living(&self) -> impl Iterator<Item = Arc<Process>> {
        self.tree.all().into_iter().filter_map(|index| {
            let node = self.tree.node(index);
            if node.death.is_none() { node.process.clone() } else { None }
        })
    }

    pub(super) fn end(
        mut self,
        seen_lost: Option<(u64, u64)>,
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.init.is_some() {
            let mut all = self.tree.all();
            all.reverse();
            for &index in &all {
                if self.tree.has(index) && self.tree.node(index).death.is_none() {
                    self.report_vanished(index, at_ns, effects);
                }
            }
            for index in all {
                if self.tree.has(index) && self.tree.node(index).death.is_some() {
                    self.report_done(index, at_ns, effects);
                }
            }
            // Every process is dead and reported: no answer could add anything.
            let target_id = self.id;
            effects.retain(|effect| match effect {
                Effect::AskReaped { target, .. }
                | Effect::AskHolders { target, .. }
                | Effect::Look { target } => *target != target_id,
                Effect::Emit(_) => true,
            });
        }
        self.report_lost(at_ns, effects);
        let Account { delivered, runtime, no_capacity, .. } = self.account;
        let counts = Counts {
            seen: seen_lost.map(|(seen, _)| seen.saturating_sub(runtime)),
            delivered,
            lost: seen_lost.map(|(_, lost)| lost + no_capacity),
            runtime,
        };
        let stamp = Stamp { at_ns, grade: Grade::Exact, derived: true };
        self.emit(stamp, Body::ContainerClose(counts), effects);
    }

    pub(super) fn emit(&self, stamp: Stamp, body: Body, effects: &mut Vec<Effect>) {
        let Stamp { at_ns, grade, derived } = stamp;
        effects.push(Effect::Emit(Emission { target: Some(self.id), at_ns, grade, derived, body }));
    }

    /// Notes the time of a record of a living process, and its start time where it was missing.
    fn note_record(&mut self, index: Index, key: ProcessKey, at_ns: u64) {
        let node = self.tree.node_mut(index);
        node.last_ns = node.last_ns.max(at_ns);
        if node.key.start_ticks == 0 {
            node.key.start_ticks = key.start_ticks;
        }
    }

    /// The process with its new image, as the event has it.
    fn process_of(
        &self,
        index: Index,
        new: &NewImage,
        origin: Origin,
        exec_id: Option<Arc<str>>,
    ) -> Arc<Process> {
        let node = self.tree.node(index);
        let before = node.process.as_ref();
        let parent =
            self.tree.parent(index).and_then(|parent| self.tree.node(parent).process.as_ref());
        let born_of = before.and_then(|before| before.parent.clone());
        let parent = match (parent, born_of) {
            // Its parent at birth is forgotten, and the tree has made it a child of that parent's
            // parent. Events keep the parent at birth.
            (Some(above), Some(born_of)) if above.key != born_of.key => Some(born_of),
            (Some(parent), _) => Some(Parent { key: parent.key, image: parent.image.clone() }),
            (None, born_of) => born_of,
        };
        let parent_pid = match new.lineage.parent_pid {
            0 => node.lineage.parent_pid,
            parent_pid => parent_pid,
        };
        Arc::new(Process {
            key: node.key,
            vpid: new.lineage.vpid.or(node.lineage.vpid),
            parent_pid,
            parent,
            image: new.image.clone(),
            origin,
            exec_id,
            cgroup: new.cgroup.and_then(|cgroup| self.cgroups.get(&cgroup).cloned()),
        })
    }

    /// Notes that this is the process of init or of an exec.
    fn set_root(&mut self, index: Index, origin: Origin, exec_id: Option<&str>) {
        let exec_id = match (origin, exec_id) {
            (Origin::Init, _) => {
                self.init_started = true;
                ""
            }
            (_, Some(exec_id)) => exec_id,
            // The shim reports the exec id later, in `exec_started`.
            (_, None) => {
                self.tree.node_mut(index).root = true;
                return;
            }
        };
        let entry = self.exec_table.entry(exec_id);
        if entry.root.is_none() {
            entry.root = Some(index);
            entry.is_resolved = true;
            self.tree.node_mut(index).root = true;
        }
    }

    /// Removes the early exit of a process that is known now.
    fn take_early_exit(&mut self, index: Index) -> Option<EarlyExit> {
        if self.early_exits.is_empty() {
            return None;
        }
        let Node { key, last_ns, .. } = self.tree.node(index);
        let position = self.early_exits.iter().position(|early_exit| {
            same(early_exit.key, *key) && early_exit.pending_exit.at_ns >= *last_ns
        })?;
        Some(self.early_exits.remove(position))
    }

    /// Reports the early exit of a process that was just reported, if there is one.
    fn report_early_exit(&mut self, index: Index, effects: &mut Vec<Effect>) {
        let Some(EarlyExit { grade, wait_status, pending_exit, .. }) = self.take_early_exit(index)
        else {
            return;
        };
        if wait_status.is_none() && self.reaper_has_status(index) {
            self.tree.node_mut(index).pending_exit = Some(pending_exit);
            return;
        }
        self.account.recount();
        let stamp = Stamp { at_ns: pending_exit.at_ns, grade, derived: false };
        self.report_exit(
            stamp,
            index,
            wait_status.map(Ended::from_wait_status),
            pending_exit,
            effects,
        );
    }

    /// Forgets a process that is not reported, if it has an early exit.
    fn forget_if_exited(&mut self, index: Index) {
        if let Some(early_exit) = self.take_early_exit(index) {
            self.tree.forget(index, early_exit.pending_exit.at_ns);
        }
    }

    /// Handles what the reaper reported before the records of the process were read.
    fn report_early_reap(&mut self, index: Index, effects: &mut Vec<Effect>) {
        let pid = self.tree.node(index).key.pid;
        let Some(entry) = self.exec_table.of_root_mut(index) else { return };
        if entry.reaped.is_none_or(|(reaped, ..)| reaped != pid) {
            return;
        }
        if let Some(reaped) = entry.reaped.take() {
            let exec_id = entry.exec_id.clone();
            self.reaped_exit(&exec_id, reaped, effects);
        }
    }

    /// Counts a record for which there was no capacity, and reports the first and each 1024th.
    fn count_lost(&mut self, at_ns: u64, effects: &mut Vec<Effect>) {
        let first = self.account.unreported == 0 && self.account.since_ns == 0;
        if self.account.since_ns == 0 {
            self.account.since_ns = at_ns.max(1);
        }
        self.account.unreported += 1;
        if first || self.account.unreported >= LOST_PER_GAP {
            self.report_lost(at_ns, effects);
        }
    }

    /// A process was added: the period without capacity, if there was one, has ended.
    fn capacity_regained(&mut self, at_ns: u64, effects: &mut Vec<Effect>) {
        if self.account.since_ns != 0 {
            self.report_lost(at_ns, effects);
            self.account.since_ns = 0;
        }
    }

    /// Reports what was lost for want of capacity and is in no gap yet.
    fn report_lost(&mut self, at_ns: u64, effects: &mut Vec<Effect>) {
        if self.account.unreported > 0 {
            let from_ns = self.account.since_ns.min(at_ns);
            let gap = Gap {
                lost: Some(self.account.unreported),
                stage: Stage::Observer,
                from_ns,
                to_ns: at_ns,
            };
            effects.push(gap_effect(Some(self.id), gap));
            self.account.unreported = 0;
            self.account.since_ns = at_ns.max(1);
        }
    }
}

impl Account {
    /// A record that was counted as silent became an event after all.
    fn recount(&mut self) {
        self.runtime = self.runtime.saturating_sub(1);
        self.delivered += 1;
    }
}

/// Whether two keys can be of one process. A start time of 0 is unknown and equals any other.
fn same(one: ProcessKey, other: ProcessKey) -> bool {
    one.pid == other.pid
        && (one.start_ticks == other.start_ticks || one.start_ticks == 0 || other.start_ticks == 0)
}
