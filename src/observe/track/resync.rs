//! A scan of `/proc`, which is compared with what is known once it is complete.
//!
//! Its processes are kept until then, because a scan lists them by pid and a parent may follow its
//! children. Records that the source delivers meanwhile have their effect at once; what the scan
//! shows of the same processes is older and is not reported again.

use std::{collections::HashSet, mem};

use super::{
    Effect,
    target::{NewImage, Stamp, Target},
    tree::{PROCESSES_MAX, PendingExit},
};
use crate::model::{Grade, Image, ProcessKey, Unknown};

#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The number of the current scan, or of the last one.
    number: u32,
    /// During a scan: how many processes the tree had counted when it began. A process that was
    /// added later is not missing from the scan.
    births: Option<u64>,
    /// The processes that it lists, at most [`PROCESSES_MAX`]: further ones stay unknown until the
    /// next scan.
    processes: Vec<(Stamp, ProcessKey, NewImage)>,
}

impl Target {
    /// A scan begins. One that has not ended is dropped.
    pub(super) fn scan_began(&mut self) {
        self.scan.number = self.scan.number.wrapping_add(1);
        self.scan.births = Some(self.tree.births());
        self.scan.processes = Vec::new();
    }

    /// A process that a scan lists; outside of a scan it has its effect at once.
    pub(super) fn scan_process(
        &mut self,
        stamp: Stamp,
        key: ProcessKey,
        new: NewImage,
        effects: &mut Vec<Effect>,
    ) {
        let stamp = Stamp { grade: Grade::Snapshot, derived: true, ..stamp };
        if self.scan.births.is_none() {
            self.apply_scanned(stamp, key, &new, effects);
        } else if self.scan.processes.len() < PROCESSES_MAX {
            self.scan.processes.push((stamp, key, new));
        }
    }

    /// A scan is complete: reports what differs from what is known.
    pub(super) fn scan_ended(&mut self, stamp: Stamp, effects: &mut Vec<Effect>) {
        let Some(births) = self.scan.births.take() else { return };
        let full = self.scan.processes.len() >= PROCESSES_MAX;
        for (stamp, key, new) in parents_first(mem::take(&mut self.scan.processes)) {
            if let Some(index) = self.apply_scanned(stamp, key, &new, effects)
                && self.tree.has(index)
            {
                self.tree.node_mut(index).scan = self.scan.number;
            }
        }
        if full {
            // A process that it does not list may live: the list was cut.
            return;
        }
        // Children before their parents, so that a parent's done finds no descendant that is dead
        // too.
        let mut all = self.tree.all();
        all.reverse();
        for index in all {
            if !self.tree.has(index) {
                continue;
            }
            let node = self.tree.node(index);
            if node.death.is_some() || node.scan == self.scan.number || node.serial > births {
                continue;
            }
            if node.process.is_some() && self.reaper_has_status(index) {
                // The reaper will report it with the status that a scan cannot know.
                let pending_exit = PendingExit {
                    at_ns: stamp.at_ns,
                    oom_killed: false,
                    outputs: [None; 2],
                    recorded: false,
                };
                self.tree.node_mut(index).pending_exit.get_or_insert(pending_exit);
            } else {
                self.report_vanished(index, stamp.at_ns, effects);
            }
        }
    }
}

/// Sorts each process after its parent. A process that a scan lists twice stays at its first place.
fn parents_first(
    mut processes: Vec<(Stamp, ProcessKey, NewImage)>,
) -> Vec<(Stamp, ProcessKey, NewImage)> {
    // A child never starts before its parent. Within one clock tick the smaller pid is the better
    // guess, and the passes below correct the wrong guesses.
    processes.sort_by_key(|(_, key, _)| (key.start_ticks, key.pid));
    let mut sorted: Vec<(Stamp, ProcessKey, NewImage)> = Vec::with_capacity(processes.len());
    let mut waiting: HashSet<i32> = processes.iter().map(|(_, key, _)| key.pid).collect();
    for _ in 0..PASSES_MAX {
        let mut later = Vec::new();
        for entry in processes {
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
        processes = later;
    }
    sorted.extend(processes);
    sorted
}

/// How many passes sort the processes of a scan. What is out of order after them is reported in the
/// order that it has: a chain of children within one tick whose pids run backwards.
const PASSES_MAX: usize = 16;

/// Whether two images of a process are of different execs.
///
/// A process may overwrite its own arguments and name (`setproctitle`), and what the kernel reports
/// at an exec and what `/proc` shows later need not agree in each part. So another executable is
/// another exec. The same executable is another exec only if both the arguments and the name
/// differ, or if the arguments could not be read: a scan in the middle of an exec reads the new
/// executable and not yet its arguments.
pub(super) fn is_other_exec(one: &Image, other: &Image) -> bool {
    if one.executable.is_none() && one.args.is_none() {
        // Its fork was reported after its parent was forgotten, so without an image.
        return other.executable.is_some() || other.args.is_some();
    }
    if let (Some(one), Some(other)) = (&one.executable, &other.executable)
        && without_deleted_suffix(one) != without_deleted_suffix(other)
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

/// `/proc/PID/exe` has this suffix where the file is removed.
fn without_deleted_suffix(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}
