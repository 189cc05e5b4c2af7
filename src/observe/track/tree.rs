//! The processes of one target, and who descends from whom.
//!
//! Links are to the parent at birth. When a process is forgotten its children become its parent's,
//! so that whoever still waits for descendants keeps all of them, and a chain of processes that
//! fork and die does not grow. A parent's `serial` is always smaller than its children's: no cycle
//! can be made, whatever the records say.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use super::recent_exits::{Gone, RecentExits};
use crate::model::{FileId, Lineage, Process, ProcessKey};

/// How many processes of one target are kept, dead ones that still have something to tell included.
/// Beyond that a new process is not told, and a gap says so. Linux allows 4 194 304 pids a node,
/// and a container with as many as this has a limit of its own to fear.
pub(super) const PROCESSES_MAX: usize = 65_536;

/// A node's place.
pub(super) type Index = usize;

#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<Index>,
    /// The youngest of each pid; older ones that are not forgotten hang on it by `Node::older`.
    youngest: HashMap<i32, Index, BuildHasherDefault<PidHasher>>,
    past: RecentExits,
    births: u64,
}

/// A process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: ProcessKey,
    /// What was told of it last. `None`: nothing yet, as for a stage of the runtime.
    pub(super) process: Option<Arc<Process>>,
    pub(super) lineage: Lineage,
    /// Counts births.
    pub(super) serial: u64,
    /// Whether its fork was seen.
    pub(super) forked: bool,
    /// Whether it was told with an image of its own.
    pub(super) started: bool,
    /// Whether it is init or an exec's own process: the shim reaps it.
    pub(super) root: bool,
    /// When it got its image, where that was seen.
    pub(super) image_ns: Option<u64>,
    /// The latest record of it.
    pub(super) last_ns: u64,
    /// The look that found it.
    pub(super) look: u32,
    /// How many of the dead it keeps from being done.
    pub(super) holds: u32,
    /// An exit without a status, kept until the shim's reaper has the status.
    pub(super) unsaid: Option<Unsaid>,
    pub(super) death: Option<Death>,
    parent: Option<Index>,
    first_child: Option<Index>,
    next: Option<Index>,
    previous: Option<Index>,
    older: Option<Index>,
}

/// An exit that is not told yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsaid {
    pub(super) at_ns: u64,
    pub(super) oom_killed: bool,
    pub(super) outputs: [Option<FileId>; 2],
    /// Whether a record of the source says so, and no look.
    pub(super) recorded: bool,
}

/// A death that was told, on its way to done.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) at_ns: u64,
    pub(super) outputs: [Option<FileId>; 2],
    pub(super) reaped: bool,
    pub(super) held_told: bool,
    pub(super) holding: Holding,
}

/// Who has a dead process's output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nobody was asked yet.
    Unasked,
    /// The answer is on its way; the births until then.
    Asked(u64),
    /// These, all alive.
    By(Vec<Index>),
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Living(Index),
    /// Dead, and not forgotten.
    Dead(Index),
    /// Dead and forgotten, or older than the living one with its pid.
    Gone,
    Unknown,
}

impl Tree {
    /// Who a record means. `start_ticks` 0, here or there, means the living one with this pid.
    pub(super) fn find(&self, key: ProcessKey, at_ns: u64) -> Found {
        let mut place = self.youngest.get(&key.pid).copied();
        let mut stale = false;
        while let Some(index) = place {
            let node = self.node(index);
            let unknown = key.start_ticks == 0 || node.key.start_ticks == 0;
            match &node.death {
                None if unknown || key.start_ticks == node.key.start_ticks => {
                    return Found::Living(index);
                }
                Some(death) if unknown && at_ns <= death.at_ns => return Found::Dead(index),
                Some(_) if !unknown && key.start_ticks == node.key.start_ticks => {
                    return Found::Dead(index);
                }
                _ => stale |= !unknown && key.start_ticks < node.key.start_ticks,
            }
            place = node.older;
        }
        if stale || self.past.has(key, at_ns) { Found::Gone } else { Found::Unknown }
    }

    /// The dead one that an answer means.
    pub(super) fn dead(&self, key: ProcessKey) -> Option<Index> {
        let mut place = self.youngest.get(&key.pid).copied();
        while let Some(index) = place {
            let node = self.node(index);
            let same = node.key.start_ticks == key.start_ticks
                || node.key.start_ticks == 0
                || key.start_ticks == 0;
            if same && node.death.is_some() {
                return Some(index);
            }
            place = node.older;
        }
        None
    }

    /// The living one with this pid.
    pub(super) fn living(&self, pid: i32) -> Option<Index> {
        self.youngest.get(&pid).copied().filter(|&index| self.node(index).death.is_none())
    }

    /// The parent that a lineage names, dead or alive.
    pub(super) fn parent_in(&self, lineage: Lineage) -> Option<Index> {
        let mut place = self.youngest.get(&lineage.parent_pid).copied();
        while let Some(index) = place {
            let ticks = self.node(index).key.start_ticks;
            if ticks == lineage.parent_start_ticks || ticks == 0 || lineage.parent_start_ticks == 0
            {
                return Some(index);
            }
            place = self.node(index).older;
        }
        None
    }

    /// The forgotten parent that a lineage names, if it had been told: its exec id.
    pub(super) fn told_once(&self, lineage: Lineage) -> Option<Option<Arc<str>>> {
        let gone = self.past.of(lineage.parent_pid)?;
        if lineage.parent_start_ticks == gone.key.start_ticks { gone.told.clone() } else { None }
    }

    /// Whether one with this pid was told and is forgotten.
    pub(super) fn forgot(&self, pid: i32) -> bool {
        self.past.of(pid).is_some_and(|gone| gone.told.is_some())
    }

    /// A new process; `None` where there is no room.
    pub(super) fn add(
        &mut self,
        key: ProcessKey,
        lineage: Lineage,
        parent: Option<Index>,
        at_ns: u64,
    ) -> Option<Index> {
        if self.youngest.len() >= PROCESSES_MAX
            || self.nodes.len() - self.free.len() >= PROCESSES_MAX
        {
            return None;
        }
        self.births += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[index] = Some(Node {
            key,
            process: None,
            lineage,
            serial: self.births,
            forked: false,
            started: false,
            root: false,
            image_ns: None,
            last_ns: at_ns,
            look: 0,
            holds: 0,
            unsaid: None,
            death: None,
            parent: None,
            first_child: None,
            next: None,
            previous: None,
            older: self.youngest.get(&key.pid).copied(),
        });
        self.youngest.insert(key.pid, index);
        if let Some(parent) = parent {
            self.adopt(index, parent);
        }
        Some(index)
    }

    /// Makes one the child of another that is older; otherwise does nothing.
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
        let Some(node) = self.nodes[index].take() else { return };
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
        self.free.push(index);
        let told = node.process.map(|process| process.exec_id.clone());
        self.past.add(Gone { key: node.key, died_ns, told });
        if self.youngest.is_empty() && self.nodes.capacity() > 1024 {
            // After a flood: gives the memory back.
            self.nodes = Vec::new();
            self.free = Vec::new();
            self.youngest = HashMap::default();
        }
    }

    /// Takes a forgotten node out of those with its pid.
    fn unchain(&mut self, node: &Node, index: Index) {
        let Some(&youngest) = self.youngest.get(&node.key.pid) else { return };
        if youngest == index {
            match node.older {
                Some(older) => self.youngest.insert(node.key.pid, older),
                None => self.youngest.remove(&node.key.pid),
            };
            return;
        }
        let mut place = youngest;
        while let Some(older) = self.node(place).older {
            if older == index {
                self.node_mut(place).older = node.older;
                return;
            }
            place = older;
        }
    }

    /// The nearest one that was told: the parent itself, or through those that were not.
    pub(super) fn told_from(&self, parent: Option<Index>) -> Option<Index> {
        let mut place = parent;
        while let Some(index) = place {
            if self.node(index).process.is_some() {
                return Some(index);
            }
            place = self.node(index).parent;
        }
        None
    }

    /// The parent.
    pub(super) fn parent(&self, index: Index) -> Option<Index> {
        self.node(index).parent
    }

    /// Everyone who descends from one and lives and was told.
    pub(super) fn descendants(&self, index: Index) -> Vec<Index> {
        let mut found = Vec::new();
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

    /// Everyone, parents before children.
    pub(super) fn all(&self) -> Vec<Index> {
        let mut all: Vec<(u64, Index)> = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(index, node)| Some((node.as_ref()?.serial, index)))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, index)| index).collect()
    }

    /// How many were ever added.
    pub(super) fn births(&self) -> u64 {
        self.births
    }

    pub(super) fn node(&self, index: Index) -> &Node {
        self.nodes[index].as_ref().expect("every index that is kept is of a node that is kept")
    }

    pub(super) fn node_mut(&mut self, index: Index) -> &mut Node {
        self.nodes[index].as_mut().expect("every index that is kept is of a node that is kept")
    }

    /// Whether an index still has its node.
    pub(super) fn has(&self, index: Index) -> bool {
        self.nodes.get(index).is_some_and(Option::is_some)
    }
}

/// Spreads pids over a table: the kernel gives them in a row, and nobody can choose many of them,
/// so a hash that withstands malice would only cost.
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
