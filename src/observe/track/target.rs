//! One target: what each record and each word of the shim does to it.

use std::{collections::HashMap, sync::Arc};

use super::{
    Effect, Emission,
    attribution::{Attribution, Shown},
    exec_table::ExecTable,
    gap_told,
    resync::Look,
    tree::{Death, Found, Holding, Index, Node, Tree, Unsaid},
};
use crate::{
    model::{
        Body, Counts, Ended, Gap, Grade, Image, Lineage, Origin, Parent, Process, ProcessKey,
        Stage, Unknown,
    },
    observe::record::{TargetId, What},
};

/// How many exits wait for the birth of their process to be told. Beyond it the oldest is
/// forgotten: if its birth still comes, the process lives until the next look.
const EARLY_MAX: usize = 64;

/// How many nested cgroups have names here.
const CGROUPS_MAX: usize = 1024;

/// How many processes find no room before another gap says so.
const NO_ROOM_TOLD: u64 = 1024;

#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: TargetId,
    pub(super) shim_pid: i32,
    /// `None`: no container.
    pub(super) init: Option<i32>,
    pub(super) init_started: bool,
    pub(super) runtime_path: Option<Box<[u8]>>,
    pub(super) tree: Tree,
    pub(super) calls: ExecTable,
    pub(super) look: Look,
    /// The dead whose output somebody holds.
    pub(super) held: Vec<Index>,
    /// How many were told dead and not done.
    pub(super) undone: usize,
    /// The latest time of any record.
    pub(super) last_ns: u64,
    cgroups: HashMap<u64, Arc<str>>,
    early: Vec<Early>,
    account: Account,
    /// For a process of which nothing but its pid is known.
    unseen: Arc<Image>,
}

/// An exit whose process is not known yet.
#[derive(Debug)]
struct Early {
    key: ProcessKey,
    grade: Grade,
    wait_status: Option<u32>,
    unsaid: Unsaid,
}

#[derive(Debug, Default)]
struct Account {
    delivered: u64,
    runtime: u64,
    no_room: u64,
    /// Of `no_room`, what no gap has told yet, and since when.
    untold: u64,
    since_ns: u64,
}

/// The outcome of one record, for the account of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It became an event.
    Reported,
    /// It became none: the runtime's own process, or something that is known already.
    Silent,
    /// There was no room for what it is about.
    NoRoom,
}

/// How an event of one record is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) at_ns: u64,
    pub(super) grade: Grade,
    pub(super) derived: bool,
}

/// An exec, or a process that a look found.
#[derive(Debug, Clone)]
pub(super) struct NewImage {
    pub(super) lineage: Lineage,
    pub(super) image: Arc<Image>,
    pub(super) cgroup: Option<u64>,
    pub(super) in_host_mounts: Option<bool>,
}

impl Target {
    pub(super) fn new(id: TargetId, shim_pid: i32, init: Option<i32>) -> Self {
        let mut calls = ExecTable::default();
        if let Some(init) = init {
            calls.entry("").own_pid = init;
        }
        Self {
            id,
            shim_pid,
            init,
            init_started: false,
            runtime_path: None,
            tree: Tree::default(),
            calls,
            look: Look::default(),
            held: Vec::new(),
            undone: 0,
            last_ns: 0,
            cgroups: HashMap::new(),
            early: Vec::new(),
            account: Account::default(),
            unseen: Arc::new(Image { unknown: Some(Unknown::NotSeen), ..Image::default() }),
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
        let how = How { at_ns, grade, derived: false };
        let outcome = match what {
            What::Fork(lineage) => self.fork(how, key, lineage, effects),
            What::Exec { lineage, image, cgroup, in_host_mounts } => {
                self.exec(how, key, &NewImage { lineage, image, cgroup, in_host_mounts }, effects)
            }
            What::Exit { wait_status, oom_killed, outputs } => {
                let unsaid = Unsaid { at_ns, oom_killed, outputs, recorded: true };
                self.exit(how, key, wait_status, unsaid, effects)
            }
            What::Alive { lineage, image, cgroup } => {
                return self.alive(
                    how,
                    key,
                    NewImage { lineage, image, cgroup, in_host_mounts: None },
                    effects,
                );
            }
            What::ScanBegan => return self.look_began(),
            What::ScanEnded => return self.look_ended(how, effects),
        };
        self.count(outcome, at_ns, effects);
    }

    pub(super) fn count(&mut self, outcome: Outcome, at_ns: u64, effects: &mut Vec<Effect>) {
        match outcome {
            Outcome::Reported => self.account.delivered += 1,
            Outcome::Silent => self.account.runtime += 1,
            Outcome::NoRoom => {
                self.account.no_room += 1;
                self.no_room(at_ns, effects);
            }
        }
    }

    pub(super) fn recount(&mut self) {
        self.account.recount();
    }

    /// A process that was told and is not forgotten.
    pub(super) fn told(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        match self.tree.find(key, u64::MAX) {
            Found::Living(index) | Found::Dead(index) => self.tree.node(index).process.as_ref(),
            Found::Gone | Found::Unknown => None,
        }
    }

    fn fork(
        &mut self,
        how: How,
        key: ProcessKey,
        lineage: Lineage,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match self.tree.find(key, how.at_ns) {
            Found::Living(index) => {
                let node = self.tree.node_mut(index);
                // Without starts, a later fork with the same pid says that the pid was reused.
                let reused = (key.start_ticks == 0 || node.key.start_ticks == 0)
                    && how.at_ns > node.last_ns
                    && (node.forked || node.started);
                if !reused {
                    node.forked = true;
                    return Outcome::Silent;
                }
            }
            Found::Dead(_) | Found::Gone => return Outcome::Silent,
            Found::Unknown => {}
        }
        self.vanish_pid(key.pid, how.at_ns, effects);
        let parent = self.tree.parent_in(lineage);
        let Some(index) = self.tree.add(key, lineage, parent, how.at_ns) else {
            return Outcome::NoRoom;
        };
        self.tree.node_mut(index).forked = true;
        self.room_again(how.at_ns, effects);
        let told_parent = parent.and_then(|parent| self.tree.node(parent).process.clone());
        let unseen = match self.init {
            Some(_) => self.tree.told_once(lineage),
            None => Some(None),
        };
        let process = match (told_parent, unseen) {
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
                image: self.unseen.clone(),
                origin: Origin::Descendant,
                exec_id,
                cgroup: None,
            },
            (None, None) => {
                self.early_end(index);
                return Outcome::Silent;
            }
        };
        let process = Arc::new(process);
        self.tree.node_mut(index).process = Some(process.clone());
        self.tell(how, Body::Fork(process), effects);
        self.early_exit(index, effects);
        Outcome::Reported
    }

    fn exec(
        &mut self,
        how: How,
        key: ProcessKey,
        new: &NewImage,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match self.tree.find(key, how.at_ns) {
            Found::Living(index) => {
                let node = self.tree.node(index);
                if node.image_ns.is_some_and(|image_ns| how.at_ns <= image_ns) {
                    return Outcome::Silent;
                }
                self.known(index, key, how.at_ns);
                self.runs(how, index, new, effects)
            }
            Found::Dead(_) | Found::Gone => Outcome::Silent,
            Found::Unknown => {
                self.vanish_pid(key.pid, how.at_ns, effects);
                let parent = self.tree.parent_in(new.lineage);
                let Some(index) = self.tree.add(key, new.lineage, parent, how.at_ns) else {
                    return Outcome::NoRoom;
                };
                self.room_again(how.at_ns, effects);
                self.runs(how, index, new, effects)
            }
        }
    }

    /// A living process runs a new image: tells it, unless it is a stage.
    fn runs(
        &mut self,
        how: How,
        index: Index,
        new: &NewImage,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let node = self.tree.node(index);
        let (key, forked, new_here) = (node.key, node.forked, node.process.is_none());
        let (origin, exec_id, birth_known) = if let Some(told) = &node.process {
            (told.origin, told.exec_id.clone(), forked && !node.started)
        } else {
            let parent = self.tree.parent(index).or_else(|| self.tree.parent_in(new.lineage));
            let shown = Shown {
                key,
                lineage: new.lineage,
                image: &new.image,
                in_host_mounts: new.in_host_mounts,
            };
            match self.whose(shown, Some(index), parent) {
                Attribution::Stage => {
                    self.tree.node_mut(index).image_ns = Some(how.at_ns);
                    self.early_end(index);
                    return Outcome::Silent;
                }
                Attribution::User { origin, exec_id, root } => {
                    if let Some(parent) = parent {
                        self.tree.adopt(index, parent);
                    }
                    if root {
                        self.take_root(index, origin, exec_id.as_deref());
                    }
                    (origin, exec_id, forked || root)
                }
            }
        };
        let process = self.process_of(index, new, origin, exec_id);
        let node = self.tree.node_mut(index);
        node.process = Some(process.clone());
        node.started = true;
        node.image_ns = Some(how.at_ns);
        let body = if birth_known || (how.derived && new_here) {
            Body::Start(process)
        } else {
            Body::Exec(process)
        };
        self.tell(how, body, effects);
        self.early_exit(index, effects);
        self.early_reaped(index, effects);
        Outcome::Reported
    }

    /// Tells what a look found: a process that no record had told, or an image that none had.
    pub(super) fn found(
        &mut self,
        how: How,
        key: ProcessKey,
        new: &NewImage,
        effects: &mut Vec<Effect>,
    ) -> Option<Index> {
        match self.tree.find(key, how.at_ns) {
            Found::Living(index) => {
                let node = self.tree.node(index);
                let news = node.image_ns.is_none_or(|image_ns| image_ns < how.at_ns)
                    && node
                        .process
                        .as_ref()
                        .is_none_or(|told| super::resync::differ(&told.image, &new.image));
                self.known(index, key, how.at_ns);
                if news {
                    self.runs(how, index, new, effects);
                }
                Some(index)
            }
            Found::Dead(_) | Found::Gone => None,
            Found::Unknown => {
                // Its exit was read before the look was complete.
                if self
                    .early
                    .iter()
                    .any(|early| same(early.key, key) && early.unsaid.at_ns >= how.at_ns)
                {
                    return None;
                }
                self.vanish_pid(key.pid, how.at_ns, effects);
                let parent = self.tree.parent_in(new.lineage);
                let Some(index) = self.tree.add(key, new.lineage, parent, how.at_ns) else {
                    self.no_room(how.at_ns, effects);
                    return None;
                };
                self.room_again(how.at_ns, effects);
                self.runs(how, index, new, effects);
                self.tree.has(index).then_some(index)
            }
        }
    }

    fn exit(
        &mut self,
        how: How,
        key: ProcessKey,
        wait_status: Option<u32>,
        unsaid: Unsaid,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let index = match self.tree.find(key, how.at_ns) {
            Found::Living(index) => index,
            Found::Dead(_) | Found::Gone => return Outcome::Silent,
            Found::Unknown => {
                if self.early.iter().any(|early| same(early.key, key)) {
                    return Outcome::Silent;
                }
                if self.early.len() >= EARLY_MAX {
                    self.early.remove(0);
                }
                self.early.push(Early { key, grade: how.grade, wait_status, unsaid });
                return Outcome::Silent;
            }
        };
        self.known(index, key, how.at_ns);
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            self.tree.forget(index, how.at_ns);
            return Outcome::Silent;
        }
        if node.unsaid.is_some_and(|earlier| earlier.recorded) {
            return Outcome::Silent;
        }
        if wait_status.is_none() && self.reaper_says(index) {
            self.tree.node_mut(index).unsaid = Some(unsaid);
            return Outcome::Silent;
        }
        self.dies(how, index, wait_status.map(Ended::from_wait_status), unsaid, effects);
        Outcome::Reported
    }

    /// Whether a status that is missing will come from the reaper.
    pub(super) fn reaper_says(&self, index: Index) -> bool {
        self.tree.node(index).root && self.init.is_some()
    }

    /// Tells an exit.
    pub(super) fn dies(
        &mut self,
        how: How,
        index: Index,
        ended: Option<Ended>,
        unsaid: Unsaid,
        effects: &mut Vec<Effect>,
    ) {
        let node = self.tree.node_mut(index);
        let Some(process) = node.process.clone() else { return };
        let (key, holds) = (node.key, node.holds);
        node.death = Some(Death {
            at_ns: how.at_ns,
            outputs: unsaid.outputs,
            reaped: false,
            held_told: false,
            holding: Holding::Unasked,
        });
        self.undone += 1;
        if unsaid.oom_killed {
            self.tell(how, Body::OomKill(process.clone()), effects);
        }
        self.tell(how, Body::Exit { process, ended, oom_killed: unsaid.oom_killed }, effects);
        effects.push(Effect::AskReaped { target: self.id, key });
        if holds > 0 {
            self.holder_gone(index, how.at_ns, effects);
        }
    }

    /// Tells an exit of which nobody saw more than that the process is gone.
    pub(super) fn vanishes(&mut self, index: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            return self.tree.forget(index, at_ns);
        }
        let unsaid = node.unsaid.take();
        let (how, unsaid) = match unsaid {
            Some(unsaid) if unsaid.recorded => {
                self.account.recount();
                (How { at_ns: unsaid.at_ns, grade: Grade::Partial, derived: false }, unsaid)
            }
            _ => {
                let unsaid =
                    Unsaid { at_ns, oom_killed: false, outputs: [None; 2], recorded: false };
                (How { at_ns, grade: Grade::Snapshot, derived: true }, unsaid)
            }
        };
        let asked = effects.len();
        self.dies(how, index, None, unsaid, effects);
        // It is not in /proc any more: nobody needs to be asked.
        let target = self.id;
        let key = self.tree.node(index).key;
        if let Some(place) =
            effects[asked..].iter().position(|effect| *effect == Effect::AskReaped { target, key })
        {
            effects.remove(asked + place);
        }
        self.is_reaped(index, at_ns, effects);
    }

    /// A new process has the pid of one that lives: the old one's exit was not seen.
    fn vanish_pid(&mut self, pid: i32, at_ns: u64, effects: &mut Vec<Effect>) {
        if let Some(old) = self.tree.living(pid) {
            self.vanishes(old, at_ns, effects);
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
        if self.calls.find(exec_id).is_none() && self.tree.forgot(pid) {
            return;
        }
        let call = self.calls.entry(exec_id);
        call.settled = true;
        let root = call.root;
        let Some(index) = root.or_else(|| self.tree.living(pid)) else {
            if !self.tree.forgot(pid) {
                self.calls.entry(exec_id).reaped = Some(reaped);
            }
            return;
        };
        let node = self.tree.node_mut(index);
        if node.process.is_none() {
            // It never came to run the user's program.
            return self.tree.forget(index, at_ns);
        }
        if node.death.is_none() {
            let ended = Some(Ended::from_go_runc(status));
            match node.unsaid.take() {
                Some(unsaid) if unsaid.recorded => {
                    self.account.recount();
                    let how = How { at_ns: unsaid.at_ns, grade: Grade::Late, derived: false };
                    self.dies(how, index, ended, unsaid, effects);
                }
                _ => {
                    let unsaid =
                        Unsaid { at_ns, oom_killed: false, outputs: [None; 2], recorded: false };
                    self.dies(
                        How { at_ns, grade: Grade::Late, derived: true },
                        index,
                        ended,
                        unsaid,
                        effects,
                    );
                }
            }
        }
        self.is_reaped(index, at_ns, effects);
    }

    pub(super) fn exec_started(&mut self, exec_id: &str, pid: i32) {
        if self.tree.living(pid).is_none() && self.tree.forgot(pid) {
            return;
        }
        let call = self.calls.entry(exec_id);
        call.own_pid = pid;
        if call.root.is_some() {
            return;
        }
        let exec_id = call.exec_id.clone();
        let Some(index) = self.tree.living(pid) else { return };
        let Some(told) = self.tree.node(index).process.clone() else { return };
        if told.exec_id.is_some() || !matches!(told.origin, Origin::Exec | Origin::Injected) {
            return;
        }
        let call = self.calls.entry(&exec_id);
        call.root = Some(index);
        call.settled = true;
        self.tree.node_mut(index).root = true;
        for index in self.tree.descendants(index) {
            if let Some(process) = &mut self.tree.node_mut(index).process {
                Arc::make_mut(process).exec_id = Some(exec_id.clone());
            }
        }
        let own = Process { origin: Origin::Exec, exec_id: Some(exec_id), ..(*told).clone() };
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
                    self.vanishes(index, at_ns, effects);
                }
            }
            for index in all {
                if self.tree.has(index) && self.tree.node(index).death.is_some() {
                    self.finish(index, at_ns, effects);
                }
            }
            // Nobody is left to ask.
            let target_id = self.id;
            effects.retain(|effect| match effect {
                Effect::AskReaped { target, .. }
                | Effect::AskHolders { target, .. }
                | Effect::Look { target } => *target != target_id,
                Effect::Emit(_) => true,
            });
        }
        self.tell_no_room(at_ns, effects);
        let Account { delivered, runtime, no_room, .. } = self.account;
        let counts = Counts {
            seen: seen_lost.map(|(seen, _)| seen.saturating_sub(runtime)),
            delivered,
            lost: seen_lost.map(|(_, lost)| lost + no_room),
            runtime,
        };
        let how = How { at_ns, grade: Grade::Exact, derived: true };
        self.tell(how, Body::ContainerClose(counts), effects);
    }

    pub(super) fn tell(&self, how: How, body: Body, effects: &mut Vec<Effect>) {
        let How { at_ns, grade, derived } = how;
        effects.push(Effect::Emit(Emission { target: Some(self.id), at_ns, grade, derived, body }));
    }

    /// Notes a record of a living process, and its start where it was not known.
    fn known(&mut self, index: Index, key: ProcessKey, at_ns: u64) {
        let node = self.tree.node_mut(index);
        node.last_ns = node.last_ns.max(at_ns);
        if node.key.start_ticks == 0 {
            node.key.start_ticks = key.start_ticks;
        }
    }

    /// The process as it is told with a new image.
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
            // Its parent at birth is forgotten: the tree has the next one above.
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

    /// Init or an exec has its process.
    fn take_root(&mut self, index: Index, origin: Origin, exec_id: Option<&str>) {
        let exec_id = match (origin, exec_id) {
            (Origin::Init, _) => {
                self.init_started = true;
                ""
            }
            (_, Some(exec_id)) => exec_id,
            // Its exec id is told later.
            (_, None) => {
                self.tree.node_mut(index).root = true;
                return;
            }
        };
        let call = self.calls.entry(exec_id);
        if call.root.is_none() {
            call.root = Some(index);
            call.settled = true;
            self.tree.node_mut(index).root = true;
        }
    }

    /// An exit that came before the birth of its process.
    fn take_early(&mut self, index: Index) -> Option<Early> {
        if self.early.is_empty() {
            return None;
        }
        let Node { key, last_ns, .. } = self.tree.node(index);
        let place = self
            .early
            .iter()
            .position(|early| same(early.key, *key) && early.unsaid.at_ns >= *last_ns)?;
        Some(self.early.remove(place))
    }

    fn early_exit(&mut self, index: Index, effects: &mut Vec<Effect>) {
        let Some(Early { grade, wait_status, unsaid, .. }) = self.take_early(index) else { return };
        if wait_status.is_none() && self.reaper_says(index) {
            self.tree.node_mut(index).unsaid = Some(unsaid);
            return;
        }
        self.account.recount();
        let how = How { at_ns: unsaid.at_ns, grade, derived: false };
        self.dies(how, index, wait_status.map(Ended::from_wait_status), unsaid, effects);
    }

    /// The same for one that is not told.
    fn early_end(&mut self, index: Index) {
        if let Some(early) = self.take_early(index) {
            self.tree.forget(index, early.unsaid.at_ns);
        }
    }

    /// The reaper was faster than the records of the process.
    fn early_reaped(&mut self, index: Index, effects: &mut Vec<Effect>) {
        let pid = self.tree.node(index).key.pid;
        let Some(call) = self.calls.of_root_mut(index) else { return };
        if call.reaped.is_none_or(|(reaped, ..)| reaped != pid) {
            return;
        }
        if let Some(reaped) = call.reaped.take() {
            let exec_id = call.exec_id.clone();
            self.reaped_exit(&exec_id, reaped, effects);
        }
    }

    fn no_room(&mut self, at_ns: u64, effects: &mut Vec<Effect>) {
        let first = self.account.untold == 0 && self.account.since_ns == 0;
        if self.account.since_ns == 0 {
            self.account.since_ns = at_ns.max(1);
        }
        self.account.untold += 1;
        if first || self.account.untold >= NO_ROOM_TOLD {
            self.tell_no_room(at_ns, effects);
        }
    }

    fn room_again(&mut self, at_ns: u64, effects: &mut Vec<Effect>) {
        if self.account.since_ns != 0 {
            self.tell_no_room(at_ns, effects);
            self.account.since_ns = 0;
        }
    }

    fn tell_no_room(&mut self, at_ns: u64, effects: &mut Vec<Effect>) {
        if self.account.untold > 0 {
            let from_ns = self.account.since_ns.min(at_ns);
            let gap = Gap {
                lost: Some(self.account.untold),
                stage: Stage::Observer,
                from_ns,
                to_ns: at_ns,
            };
            effects.push(gap_told(Some(self.id), gap));
            self.account.untold = 0;
            self.account.since_ns = at_ns.max(1);
        }
    }
}

impl Account {
    /// A record that was kept silent is told after all.
    fn recount(&mut self) {
        self.runtime = self.runtime.saturating_sub(1);
        self.delivered += 1;
    }
}

/// Whether two keys can be of one process.
fn same(one: ProcessKey, other: ProcessKey) -> bool {
    one.pid == other.pid
        && (one.start_ticks == other.start_ticks || one.start_ticks == 0 || other.start_ticks == 0)
}
