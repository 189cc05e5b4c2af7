//! A look at `/proc`: what it found is compared with what is known, once it is complete.
//!
//! What it names is kept until then, because it names processes by pid and a parent may come after
//! its children. Records that the source gave meanwhile have their effect at once; what the look
//! then says of the same processes is older and is not told again.

use std::{collections::HashSet, mem};

use super::{
    Effect,
    target::{How, NewImage, Target},
    tree::{PROCESSES_MAX, Unsaid},
};
use crate::model::{Grade, Image, ProcessKey, Unknown};

#[derive(Debug, Default)]
pub(super) struct Look {
    /// Counts looks.
    number: u32,
    /// While one is on its way: how many births it may know of.
    births: Option<u64>,
    /// What it named, at most [`PROCESSES_MAX`]: what is beyond is unknown until the next look.
    found: Vec<(How, ProcessKey, NewImage)>,
}

impl Target {
    /// One that does not end is dropped when the next begins.
    pub(super) fn look_began(&mut self) {
        self.look.number = self.look.number.wrapping_add(1);
        self.look.births = Some(self.tree.births());
        self.look.found = Vec::new();
    }

    pub(super) fn alive(
        &mut self,
        how: How,
        key: ProcessKey,
        new: NewImage,
        effects: &mut Vec<Effect>,
    ) {
        let how = How { grade: Grade::Snapshot, derived: true, ..how };
        if self.look.births.is_none() {
            self.found(how, key, &new, effects);
        } else if self.look.found.len() < PROCESSES_MAX {
            self.look.found.push((how, key, new));
        }
    }

    pub(super) fn look_ended(&mut self, how: How, effects: &mut Vec<Effect>) {
        let Some(births) = self.look.births.take() else { return };
        let full = self.look.found.len() >= PROCESSES_MAX;
        for (how, key, new) in parents_first(mem::take(&mut self.look.found)) {
            if let Some(index) = self.found(how, key, &new, effects)
                && self.tree.has(index)
            {
                self.tree.node_mut(index).look = self.look.number;
            }
        }
        if full {
            return;
        }
        let mut all = self.tree.all();
        all.reverse();
        for index in all {
            if !self.tree.has(index) {
                continue;
            }
            let node = self.tree.node(index);
            if node.death.is_some() || node.look == self.look.number || node.serial > births {
                continue;
            }
            if node.process.is_some() && self.reaper_says(index) {
                let gone = Unsaid {
                    at_ns: how.at_ns,
                    oom_killed: false,
                    outputs: [None; 2],
                    recorded: false,
                };
                self.tree.node_mut(index).unsaid.get_or_insert(gone);
            } else {
                self.vanishes(index, how.at_ns, effects);
            }
        }
    }
}

/// Puts each process after its parent. One that a look named twice stays where it came first.
fn parents_first(mut found: Vec<(How, ProcessKey, NewImage)>) -> Vec<(How, ProcessKey, NewImage)> {
    // A child never starts before its parent; within one tick a smaller pid is the better guess,
    // and the passes below mend what it gets wrong.
    found.sort_by_key(|(_, key, _)| (key.start_ticks, key.pid));
    let mut sorted: Vec<(How, ProcessKey, NewImage)> = Vec::with_capacity(found.len());
    let mut waiting: HashSet<i32> = found.iter().map(|(_, key, _)| key.pid).collect();
    for _ in 0..PASSES_MAX {
        let mut later = Vec::new();
        for entry in found {
            let (_, key, new) = &entry;
            if new.lineage.parent_pid != key.pid && waiting.contains(&new.lineage.parent_pid) {
                later.push(entry);
            } else {
                waiting.remove(&key.pid);
                sorted.push(entry);
            }
        }
        if later.is_empty() {
            return sorted;
        }
        found = later;
    }
    sorted.extend(found);
    sorted
}

/// How often a look's processes are gone through for parents that came after their children. What
/// is still out of order then is told as it stands.
const PASSES_MAX: usize = 16;

/// Whether two images of a process are of different execs.
///
/// A process may write over its own arguments and name (`setproctitle`), and what the kernel says
/// at an exec and `/proc` later need not agree in each part. So another executable is an exec; the
/// same one is only where both the arguments and the name differ, or where there were no arguments
/// to be read: a look in the middle of an exec finds the new executable and not yet its arguments.
pub(super) fn differ(one: &Image, other: &Image) -> bool {
    if one.executable.is_none() && one.args.is_none() {
        // Its fork was told when its parent was forgotten already: what it runs is news.
        return other.executable.is_some() || other.args.is_some();
    }
    if let (Some(one), Some(other)) = (&one.executable, &other.executable)
        && undeleted(one) != undeleted(other)
    {
        return true;
    }
    if one.args.is_none() && one.unknown == Some(Unknown::Faulted) && other.args.is_some() {
        return true;
    }
    let names = matches!((&one.comm, &other.comm), (Some(one), Some(other)) if one != other);
    let args = match (&one.args, &other.args) {
        (Some(one), Some(other)) => {
            let length = one.bytes.len().min(other.bytes.len());
            one.bytes[..length] != other.bytes[..length]
        }
        _ => false,
    };
    names && args
}

/// `/proc/PID/exe` says so of a file that is removed.
fn undeleted(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}
