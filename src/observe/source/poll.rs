//! The source of last resort: scans `/proc` at a fixed interval.
//!
//! A process that starts and ends between two scans is never seen, and not counted either. Records
//! have [`Grade::Snapshot`](crate::model::Grade::Snapshot), the time of the scan and no exit
//! status.

use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use super::{KernelCounts, Source, SourceError, Target, scan::scan};
use crate::{
    linux::{
        cgroup::{self, members},
        process::identify,
    },
    model::{Backend, ProcessKey},
    observe::record::{Record, TargetId, What},
};

/// The default interval between two scans of a target.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// The number of intervals after which a target is scanned even if its list of pids has not
/// changed. Such a scan finds an exec, and a pid that was reused.
const FULL_SCAN_EVERY: u32 = 10;

/// The most targets that one source scans.
const TARGETS_LIMIT: u32 = 4096;

/// Reports processes from scans of `/proc`.
///
/// A scan of an unchanged cgroup costs reading its list of pids; a scan of a tree always costs
/// reading the `stat` of every process of the node.
#[derive(Debug)]
pub struct PollSource {
    interval: Duration,
    targets: HashMap<TargetId, ScannedTarget>,
}

/// A target, as the last scan found it.
#[derive(Debug)]
struct ScannedTarget {
    target: Target,
    /// When to scan next.
    due: Instant,
    /// The sorted pids; `None` before the first scan, and for a tree.
    pids: Option<Vec<i32>>,
    /// The processes that were alive at the last scan.
    known: Vec<ProcessKey>,
    /// How many intervals were skipped since the last scan, because the pids were the same.
    unchanged: u32,
}

impl PollSource {
    /// Creates a source that scans every `interval`, by default [`SCAN_INTERVAL`].
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, targets: HashMap::new() }
    }
}

impl ScannedTarget {
    /// Scans the target and returns the records; `None` if the list of pids has not changed, or if
    /// the scan failed.
    fn scan_if_changed(&mut self, id: TargetId) -> Option<Vec<Record>> {
        // The pids are read before the scan, so that the next update finds a change that happens
        // between this read and the scan.
        let pids = self.list_pids();
        let is_same = pids.is_some() && pids == self.pids;
        if is_same && self.unchanged + 1 < FULL_SCAN_EVERY {
            self.unchanged += 1;
            return None;
        }
        // A failed scan makes no records, because an incomplete scan would make living processes
        // look dead.
        let records = scan(id, &self.target, &self.known).ok()?;
        self.unchanged = 0;
        self.pids = pids;
        let alive = records.iter().filter_map(|record| match record {
            Record::Process { key, what: What::Alive { .. }, .. } => Some(*key),
            _ => None,
        });
        let known: Vec<_> = alive.collect();
        // The next scan finds a tree by the processes that are known (pid and start). With an empty
        // list it would begin at the root's pid, which may be another process's by now. So the old
        // list is kept if all have ended: it matches no living process.
        if !known.is_empty() || matches!(self.target, Target::Cgroup { .. }) {
            self.known = known;
        }
        Some(records)
    }

    /// The sorted pids of a cgroup; `None` for a tree, for which the kernel has no list.
    fn list_pids(&self) -> Option<Vec<i32>> {
        let Target::Cgroup { path, .. } = &self.target else { return None };
        // A cgroup that was removed has no members, so its processes are reported as ended.
        let mut pids = members(path).unwrap_or_default();
        pids.sort_unstable();
        Some(pids)
    }
}

impl Source for PollSource {
    fn backend(&self) -> Backend {
        Backend::Poll
    }

    /// The target is scanned for the first time by the next [`read`](Source::read).
    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError> {
        let refused = |target: String| move |source| SourceError::Target { target, source };
        match target {
            Target::Cgroup { path, .. } => {
                cgroup::id(path).map_err(refused(path.display().to_string()))?;
            }
            Target::Tree { pid } => {
                let gone = || io::Error::from(nix::Error::ESRCH);
                identify(*pid).ok_or_else(gone).map_err(refused(format!("process {pid}")))?;
            }
        }
        if self.targets.len() as u64 >= u64::from(TARGETS_LIMIT) {
            return Err(SourceError::Full { what: "targets", limit: TARGETS_LIMIT });
        }
        let scanned = ScannedTarget {
            target: target.clone(),
            due: Instant::now(),
            pids: None,
            known: Vec::new(),
            unchanged: 0,
        };
        self.targets.insert(id, scanned);
        Ok(())
    }

    fn unwatch(&mut self, id: TargetId) {
        self.targets.remove(&id);
    }

    fn counts(&self, _id: TargetId) -> Option<KernelCounts> {
        None
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns at once, because nothing collects between two scans. The caller waits for its other
    /// descriptors until the next scan is due.
    fn wait_to_collect(&mut self, _others: &[BorrowedFd<'_>]) -> bool {
        true
    }

    /// A scan is delivered as a whole, so `limit` is checked between two targets only.
    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        let now = Instant::now();
        let mut delivered = 0;
        for (id, scanned) in &mut self.targets {
            if scanned.due > now {
                continue;
            }
            if delivered >= limit {
                return Ok(true);
            }
            // Counted from now and not from the last due time, so that missed scans are not
            // repeated.
            scanned.due = now + self.interval;
            let records = scanned.scan_if_changed(*id).unwrap_or_default();
            delivered += records.len();
            records.into_iter().for_each(&mut *sink);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
