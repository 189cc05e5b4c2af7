//! The processes of a scan of `/proc`, until the scan is complete.
//!
//! They are kept until then, because a scan lists them by pid and a parent may follow its children.

use std::{collections::HashSet, mem};

use super::{image::NewImage, output::Stamp, tree::PROCESSES_MAX};
use crate::model::ProcessKey;

/// The largest number of passes that sort the processes of a scan. Only a long chain of children
/// that started within one clock tick with descending pids is still out of order after them, and is
/// reported so.
const PASSES_MAX: usize = 16;

/// The scan of one target that is under way, if there is one, and the times of the last one.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The number of the current scan, or of the last one.
    number: u32,
    /// During a scan: when it began, and how many processes had ever been added to the tree then.
    began: Option<(u64, u64)>,
    /// When the last scan that was received to its end began and ended.
    last: Option<(u64, u64)>,
    /// The processes that the scan lists, at most [`PROCESSES_MAX`]: further processes stay unknown
    /// until the next scan.
    processes: Vec<Scanned>,
}

/// A process that a scan lists.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) stamp: Stamp,
    pub(super) key: ProcessKey,
    pub(super) new: NewImage,
}

/// A scan that has been received to its end.
pub(super) struct CompleteScan {
    pub(super) number: u32,
    pub(super) began_ns: u64,
    /// How many processes had ever been added to the tree when the scan began. A process that was
    /// added later is not missing from the scan.
    pub(super) births: u64,
    /// Whether the list was cut at [`PROCESSES_MAX`]: then a process that it lacks may be alive.
    pub(super) is_cut: bool,
    /// Each process after its parent.
    pub(super) processes: Vec<Scanned>,
}

impl Scan {
    /// A scan begins. An earlier scan that has not ended is dropped.
    pub(super) fn begin(&mut self, at_ns: u64, births: u64) {
        self.number = self.number.wrapping_add(1);
        self.began = Some((at_ns, births));
        self.processes = Vec::new();
    }

    /// Keeps a process for the end of the scan. Returns it if no scan is under way.
    pub(super) fn add(&mut self, scanned: Scanned) -> Option<Scanned> {
        if self.began.is_none() {
            return Some(scanned);
        }
        if self.processes.len() < PROCESSES_MAX {
            self.processes.push(scanned);
        }
        None
    }

    /// Ends the scan and returns it; `None` if no scan had begun.
    pub(super) fn end(&mut self, at_ns: u64) -> Option<CompleteScan> {
        let (began_ns, births) = self.began.take()?;
        self.last = Some((began_ns, at_ns));
        let is_cut = self.processes.len() >= PROCESSES_MAX;
        let processes = parents_first(mem::take(&mut self.processes));
        Some(CompleteScan { number: self.number, began_ns, births, is_cut, processes })
    }

    /// Whether the last complete scan began at `image_ns` and had not ended at `at_ns`: then it may
    /// have read the image of an exec at `at_ns`.
    pub(super) fn may_have_read(&self, image_ns: u64, at_ns: u64) -> bool {
        self.last.is_some_and(|(began_ns, ended_ns)| image_ns == began_ns && at_ns <= ended_ns)
    }
}

/// Sorts each process after its parent. A process that a scan lists twice stays at its first place.
fn parents_first(mut processes: Vec<Scanned>) -> Vec<Scanned> {
    // A child never starts before its parent. Within one clock tick the smaller pid is the better
    // guess, and the passes below correct the wrong guesses.
    processes.sort_by_key(|scanned| (scanned.key.start, scanned.key.pid));
    let mut sorted: Vec<Scanned> = Vec::with_capacity(processes.len());
    let mut waiting: HashSet<i32> = processes.iter().map(|scanned| scanned.key.pid).collect();
    for _ in 0..PASSES_MAX {
        let mut later = Vec::new();
        for scanned in processes {
            let (pid, parent) = (scanned.key.pid, scanned.new.lineage.parent_pid());
            // If the pid of the parent was reused for the process itself, the process must not wait
            // for itself.
            if parent.is_some_and(|parent| parent != pid && waiting.contains(&parent)) {
                later.push(scanned);
            } else {
                waiting.remove(&pid);
                sorted.push(scanned);
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
