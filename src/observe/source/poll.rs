//! The source of last resort: looks at `/proc` again and again.
//!
//! What begins and ends between two looks is never seen, and nobody counts it. What is seen has
//! [`Grade::Snapshot`](crate::model::Grade::Snapshot), the time of the look, and no exit status.

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

/// How often it looks by default.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Every so many intervals a look is whole even though the list of pids has not changed: it finds
/// an exec, and a pid that was reused.
const WHOLE_LOOK_EVERY: u32 = 10;

/// How many targets there can be.
const TARGETS_LIMIT: u32 = 4096;

/// Looks.
///
/// An unchanged cgroup costs the reading of its list of pids; an unchanged tree the `stat` of every
/// process of the node.
#[derive(Debug)]
pub struct PollSource {
    interval: Duration,
    targets: HashMap<TargetId, Seen>,
}

/// A target, as it was at the last look.
#[derive(Debug)]
struct Seen {
    target: Target,
    due: Instant,
    /// Sorted; `None` before the first look.
    pids: Option<Vec<i32>>,
    known: Vec<ProcessKey>,
    unchanged: u32,
}

impl PollSource {
    /// One that looks every `interval` ([`INTERVAL`] is a good one).
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, targets: HashMap::new() }
    }
}

impl Seen {
    /// The records of a look, where there is something to tell.
    fn look(&mut self, id: TargetId) -> Option<Vec<Record>> {
        // Read before the look: what changes in between is found by the next one.
        let pids = self.list();
        let is_same = pids.is_some() && pids == self.pids;
        if is_same && self.unchanged + 1 < WHOLE_LOOK_EVERY {
            self.unchanged += 1;
            return None;
        }
        // Not all could be asked: said by silence, since half a look would declare the living dead.
        let records = scan(id, &self.target, &self.known).ok()?;
        self.unchanged = 0;
        self.pids = pids;
        let alive = records.iter().filter_map(|record| match record {
            Record::Process { key, what: What::Alive { .. }, .. } => Some(*key),
            _ => None,
        });
        let known: Vec<_> = alive.collect();
        // A tree whose last process has ended has none any more: never again by a pid that was
        // reused.
        if !known.is_empty() || matches!(self.target, Target::Cgroup { .. }) {
            self.known = known;
        }
        Some(records)
    }

    /// The pids of a cgroup, sorted; `None` for what has no list.
    fn list(&self) -> Option<Vec<i32>> {
        let Target::Cgroup { path, .. } = &self.target else { return None };
        let mut pids = members(path).unwrap_or_default();
        pids.sort_unstable();
        Some(pids)
    }
}

impl Source for PollSource {
    fn backend(&self) -> Backend {
        Backend::Poll
    }

    /// The first look comes with the next [`read`](Source::read).
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
            return Err(SourceError::Full { what: "places for targets", limit: TARGETS_LIMIT });
        }
        let seen = Seen {
            target: target.clone(),
            due: Instant::now(),
            pids: None,
            known: Vec::new(),
            unchanged: 0,
        };
        self.targets.insert(id, seen);
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

    /// Nothing collects between two looks: whoever waits for the next one may wait for all else
    /// too.
    fn rest(&mut self, _others: &[BorrowedFd<'_>]) -> bool {
        true
    }

    /// A look is told whole: the limit is asked between two targets.
    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        let now = Instant::now();
        let mut given = 0;
        for (id, seen) in &mut self.targets {
            if seen.due > now {
                continue;
            }
            if given >= limit {
                return Ok(true);
            }
            seen.due = now + self.interval;
            let records = seen.look(*id).unwrap_or_default();
            given += records.len();
            records.into_iter().for_each(&mut *sink);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
