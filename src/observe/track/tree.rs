//! The processes of one target, and who descends from whom.
//!
//! Links are to the parent at birth. When a process is forgotten, its children become its parent's,
//! so that an ancestor that waits for its descendants keeps all of them, and a chain of processes
//! that fork and exit does not grow. The `serial` of a parent is always smaller than those of its
//! children: no record can make a cycle.

use std::{
    cmp::Ordering,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    num::{NonZeroI32, NonZeroU64},
    sync::Arc,
};

pub(super) use super::nodes::Index;
use super::{
    identity::Identity,
    nodes::Nodes,
    recent_exits::{RecentExit, RecentExits},
};
use crate::model::{FileId, Lineage, Origin, Process, ProcessKey};

/// How many processes of one target are kept, with the exited ones that are not done. Beyond this
/// number a new process is not reported, and a gap counts it. Linux allows 4 194 304 pids on a
/// node, but a container with as many as this is likely to reach a limit of its own first.
pub(super) const PROCESSES_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Nodes<Node>,
    /// The youngest process of each pid. Older processes with this pid that are not forgotten
    /// follow in `Node::older`.
    youngest: HashMap<i32, Index, BuildHasherDefault<PidHasher>>,
    recent_exits: RecentExits,
    births: u64,
}

/// A process in the tree.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: ProcessKey,
    /// The start to the nanosecond; `None` where the source does not know it.
    pub(super) start_ns: Option<NonZeroU64>,
    /// The process in its last reported state; `None` while it is not reported, as for a stage of
    /// the runtime (`runc init`).
    pub(super) process: Option<Arc<Process>>,
    // A container may have many processes, so a node has three pids of its lineage and not the
    // whole of it, as numbers that are never 0, and what only a few processes need is boxed.
    vpid: Option<NonZeroI32>,
    parent_pid: Option<NonZeroI32>,
    grandparent_pid: Option<NonZeroI32>,
    /// The value of a counter that each added process increments. Orders processes by when they
    /// were added.
    pub(super) serial: u64,
    /// The time of its fork; `None` if its fork was not received.
    born_ns: Option<NonZeroU64>,
    /// Whether it was reported with an image of its own, not its parent's.
    pub(super) started: bool,
    /// Whether it is init or an exec's own process: the shim reaps it.
    pub(super) root: bool,
    /// When its image began to run, or when the scan began that has read it; `None` if no record
    /// has reported an image.
    image_ns: Option<NonZeroU64>,
    /// Where the exec of its image has put the stack, as
    /// [`Image::stack`](crate::model::Image::stack).
    pub(super) stack: Option<NonZeroU64>,
    /// The time of its latest record.
    pub(super) last_ns: u64,
    /// The number of the last scan that listed it.
    pub(super) scan: u32,
    /// How many exited processes are not done because this process holds their output.
    pub(super) holds: u32,
    /// Its exit, kept without a status until the shim's reaper reports the status.
    pub(super) pending_exit: Option<Box<PendingExit>>,
    pub(super) death: Option<Box<Death>>,
    parent: Option<Index>,
    first_child: Option<Index>,
    next: Option<Index>,
    previous: Option<Index>,
    older: Option<Index>,
}

/// An exit that is known and not reported yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingExit {
    pub(super) at_ns: u64,
    pub(super) oom_killed: bool,
    pub(super) outputs: [Option<FileId>; 2],
    /// Whether a record of the source reported it; otherwise a scan or the reaper did.
    pub(super) recorded: bool,
}

/// The exit of a process that is reported and not done.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) at_ns: u64,
    pub(super) outputs: [Option<FileId>; 2],
    pub(super) reaped: bool,
    pub(super) held_reported: bool,
    pub(super) holding: Holding,
}

/// Which processes hold the output of an exited one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// No query was sent yet.
    NotQueried,
    /// A query was sent and is not answered. The value is the number of processes that had been
    /// added before the query.
    Queried(u64),
    /// These processes, all of them alive, hold the output.
    HeldBy(Vec<Index>),
}

/// What the tree knows about the process with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Living(Index),
    /// The process has exited and is not done.
    Dead(Index),
    /// The process has exited and is forgotten, or is older than the living process with its pid.
    Forgotten,
    Unknown,
}

impl PendingExit {
    /// An exit that no record of the source reports.
    pub(super) fn unrecorded(at_ns: u64) -> Self {
        Self { at_ns, oom_killed: false, outputs: [None; 2], recorded: false }
    }
}

impl Node {
    pub(super) fn identity(&self) -> Identity {
        Identity { key: self.key, start_ns: self.start_ns }
    }

    /// Whether its fork was received.
    pub(super) fn is_forked(&self) -> bool {
        self.born_ns.is_some()
    }

    /// Notes the time of its fork.
    pub(super) fn set_born_ns(&mut self, at_ns: u64) {
        self.born_ns = self.born_ns.or(NonZeroU64::new(at_ns));
    }

    /// How long it has run by this time; `None` if its fork was not received.
    pub(super) fn run_time_ns(&self, at_ns: u64) -> Option<u64> {
        Some(at_ns.saturating_sub(self.born_ns?.get()))
    }

    pub(super) fn image_ns(&self) -> Option<u64> {
        self.image_ns.map(NonZeroU64::get)
    }

    pub(super) fn set_image_ns(&mut self, at_ns: u64) {
        self.image_ns = NonZeroU64::new(at_ns);
    }

    /// Its pid in its own pid namespace; `None` if it is not known.
    pub(super) fn vpid(&self) -> Option<i32> {
        self.vpid.map(NonZeroI32::get)
    }

    /// The pid of its parent when it was added; `None` if it is not known.
    pub(super) fn parent_pid(&self) -> Option<i32> {
        self.parent_pid.map(NonZeroI32::get)
    }

    /// The pid of its parent's parent when it was added; `None` if it is not known.
    pub(super) fn grandparent_pid(&self) -> Option<i32> {
        self.grandparent_pid.map(NonZeroI32::get)
    }
}

impl Tree {
    /// Which process a record is about. If the record or the process has no start time, this is the
    /// living process with the pid.
    pub(super) fn find(&self, identity: Identity, at_ns: u64) -> Lookup {
        let mut next = self.youngest.get(&identity.key.pid).copied();
        let mut stale = false;
        while let Some(index) = next {
            let node = self.node(index);
            match (&node.death, identity.compare_starts(node.identity())) {
                (None, None | Some(Ordering::Equal)) => return Lookup::Living(index),
                (Some(_), Some(Ordering::Equal)) => return Lookup::Dead(index),
                // Without a start time only the time of the record shows which process it is about.
                (Some(death), None) if at_ns <= death.at_ns => return Lookup::Dead(index),
                // The record is older than a process that had the pid later, so its process is
                // forgotten.
                (_, order) => stale |= order == Some(Ordering::Less),
            }
            next = node.older;
        }
        if stale || self.recent_exits.covers(identity, at_ns) {
            Lookup::Forgotten
        } else {
            Lookup::Unknown
        }
    }

    /// The exited process that an answer is about.
    pub(super) fn find_dead(&self, key: ProcessKey) -> Option<Index> {
        let mut next = self.youngest.get(&key.pid).copied();
        while let Some(index) = next {
            let node = self.node(index);
            if key.may_be_same(node.key) && node.death.is_some() {
                return Some(index);
            }
            next = node.older;
        }
        None
    }

    /// The exited processes with this pid that are not done.
    pub(super) fn all_dead(&self, pid: i32) -> Vec<Index> {
        let youngest = self.youngest.get(&pid).copied();
        let all = std::iter::successors(youngest, |&index| self.node(index).older);
        all.filter(|&index| self.node(index).death.is_some()).collect()
    }

    /// The living process with this pid.
    pub(super) fn find_living(&self, pid: i32) -> Option<Index> {
        // Only the youngest can live: a new process with its pid ends the previous one.
        self.youngest.get(&pid).copied().filter(|&index| self.node(index).death.is_none())
    }

    /// The process that a lineage names as the parent, exited or alive.
    pub(super) fn find_parent(&self, lineage: Lineage) -> Option<Index> {
        let parent = lineage.parent?;
        let mut next = self.youngest.get(&parent.pid).copied();
        while let Some(index) = next {
            if parent.may_be_same(self.node(index).key) {
                return Some(index);
            }
            next = self.node(index).older;
        }
        None
    }

    /// The origin and the exec id of the parent that a lineage names, if the parent was reported
    /// and is forgotten.
    pub(super) fn forgotten_parent(&self, lineage: Lineage) -> Option<(Origin, Option<Arc<str>>)> {
        let parent = lineage.parent?;
        let exit = self.recent_exits.last_of(parent.pid)?;
        // Unlike in `find_parent`, the start must be the same: the pid alone may belong to another
        // process by now.
        if exit.identity.key == parent { exit.reported.clone() } else { None }
    }

    /// Whether a process with this pid was reported and is forgotten.
    pub(super) fn has_forgotten(&self, pid: i32) -> bool {
        self.recent_exits.last_of(pid).is_some_and(|exit| exit.reported.is_some())
    }

    /// Adds a process; `None` where the tree is full.
    pub(super) fn add(
        &mut self,
        identity: Identity,
        lineage: Lineage,
        parent: Option<Index>,
        at_ns: u64,
    ) -> Option<Index> {
        let Identity { key, start_ns } = identity;
        if self.nodes.len() >= PROCESSES_MAX {
            return None;
        }
        self.births += 1;
        let pid = |pid: Option<i32>| pid.and_then(NonZeroI32::new);
        let index = self.nodes.add(Node {
            key,
            start_ns,
            process: None,
            vpid: pid(lineage.vpid),
            parent_pid: pid(lineage.parent_pid()),
            grandparent_pid: pid(lineage.grandparent_pid),
            serial: self.births,
            born_ns: None,
            started: false,
            root: false,
            image_ns: None,
            stack: None,
            last_ns: at_ns,
            scan: 0,
            holds: 0,
            pending_exit: None,
            death: None,
            parent: None,
            first_child: None,
            next: None,
            previous: None,
            older: self.youngest.get(&key.pid).copied(),
        })?;
        self.youngest.insert(key.pid, index);
        if let Some(parent) = parent {
            self.adopt(index, parent);
        }
        Some(index)
    }

    /// Makes `child` a child of `parent`, unless it has a parent or `parent` is younger.
    pub(super) fn adopt(&mut self, child: Index, parent: Index) {
        if self.node(child).parent.is_some() || self.node(parent).serial >= self.node(child).serial
        {
            return;
        }
        let first = self.node_mut(parent).first_child.replace(child);
        if let Some(first) = first {
            self.node_mut(first).previous = Some(child);
        }
        let node = self.node_mut(child);
        node.parent = Some(parent);
        node.next = first;
        node.previous = None;
    }

    /// Forgets a process: its children become its parent's.
    pub(super) fn forget(&mut self, index: Index, died_ns: u64) {
        let Some(node) = self.nodes.remove(index) else { return };
        match (node.previous, node.parent) {
            (Some(previous), _) => self.node_mut(previous).next = node.next,
            (None, Some(parent)) => self.node_mut(parent).first_child = node.next,
            (None, None) => {}
        }
        if let Some(next) = node.next {
            self.node_mut(next).previous = node.previous;
        }
        let mut child = node.first_child;
        while let Some(index) = child {
            let orphan = self.node_mut(index);
            child = orphan.next.take();
            orphan.previous = None;
            orphan.parent = None;
            if let Some(parent) = node.parent {
                self.adopt(index, parent);
            }
        }
        self.unchain(&node, index);
        let identity = node.identity();
        let reported = node.process.map(|process| (process.origin, process.exec_id.clone()));
        self.recent_exits.add(RecentExit { identity, died_ns, reported }, node.root);
        // A table does not shrink on its own, and the shim lives for as long as its container.
        if self.youngest.capacity() > 1024 && self.youngest.len() < self.youngest.capacity() / 8 {
            self.youngest.shrink_to(2 * self.youngest.len());
        }
    }

    /// Removes a forgotten node from the list of those with its pid.
    fn unchain(&mut self, node: &Node, index: Index) {
        let Some(&youngest) = self.youngest.get(&node.key.pid) else { return };
        if youngest == index {
            match node.older {
                Some(older) => self.youngest.insert(node.key.pid, older),
                None => self.youngest.remove(&node.key.pid),
            };
            return;
        }
        let mut next = youngest;
        while let Some(older) = self.node(next).older {
            if older == index {
                self.node_mut(next).older = node.older;
                return;
            }
            next = older;
        }
    }

    /// The nearest reported ancestor: the parent, or an ancestor above unreported ones.
    pub(super) fn nearest_reported(&self, parent: Option<Index>) -> Option<Index> {
        let mut next = parent;
        while let Some(index) = next {
            if self.node(index).process.is_some() {
                return Some(index);
            }
            next = self.node(index).parent;
        }
        None
    }

    pub(super) fn parent(&self, index: Index) -> Option<Index> {
        self.node(index).parent
    }

    /// All living reported descendants, in no order.
    pub(super) fn descendants(&self, index: Index) -> Vec<Index> {
        let mut found = Vec::new();
        // A list, because a recursion could exhaust the stack: a chain of forks may be long.
        let mut open: Vec<Index> = self.node(index).first_child.into_iter().collect();
        while let Some(index) = open.pop() {
            let node = self.node(index);
            open.extend(node.next);
            open.extend(node.first_child);
            if node.death.is_none() && node.process.is_some() {
                found.push(index);
            }
        }
        found
    }

    /// All processes, parents before their children.
    pub(super) fn all(&self) -> Vec<Index> {
        self.all_after(0)
    }

    /// All processes with a greater serial, parents before their children.
    pub(super) fn all_after(&self, serial: u64) -> Vec<Index> {
        let all = self.nodes.iter().map(|(index, node)| (node.serial, index));
        let mut all: Vec<(u64, Index)> = all.filter(|(own, _)| *own > serial).collect();
        // Sorted by serial: the serial of a parent is always smaller than those of its children.
        all.sort_unstable_by_key(|(serial, _)| *serial);
        all.into_iter().map(|(_, index)| index).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many processes were ever added.
    pub(super) fn births(&self) -> u64 {
        self.births
    }

    pub(super) fn node(&self, index: Index) -> &Node {
        self.nodes.get(index).expect("every stored index belongs to a stored node")
    }

    pub(super) fn node_mut(&mut self, index: Index) -> &mut Node {
        self.nodes.get_mut(index).expect("every stored index belongs to a stored node")
    }

    /// Whether an index still has its node.
    pub(super) fn has(&self, index: Index) -> bool {
        self.nodes.get(index).is_some()
    }
}

/// Spreads pids over a table. The kernel assigns them in sequence, and no process can choose many
/// of them, so a hash that withstands chosen keys would only cost time.
#[derive(Debug, Default)]
struct PidHasher(u64);

impl Hasher for PidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8 | u64::from(*byte)).wrapping_mul(SPREAD);
        }
    }

    fn write_i32(&mut self, pid: i32) {
        self.0 = u64::from(pid.cast_unsigned()).wrapping_mul(SPREAD);
    }
}

/// 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
