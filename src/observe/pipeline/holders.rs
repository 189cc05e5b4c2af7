//! The searches for the processes that hold the output of dead ones.
//!
//! A container decides how many processes and descriptors there are to search, and how often. So
//! the questions that come while a search runs are answered by one search after it, and the
//! searches of all targets together get a share of the time.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use super::Pipeline;
use crate::{
    clock::monotonic_ns,
    model::{FileId, ProcessKey},
    observe::record::TargetId,
    platform::process::HolderSearch,
};

/// The share of the time that searches may take: one tenth.
const SHARE: u32 = 10;

/// The longest time that one search takes before that of the next target continues.
const SLICE: Duration = Duration::from_millis(1);

/// The time that searches may take at once after a time without any.
const BURST: Duration = Duration::from_millis(10);

/// The searches of all targets.
#[derive(Debug)]
pub(super) struct HolderSearches {
    of_targets: BTreeMap<TargetId, Searches>,
    /// The target with the last slice: the next one is that of the target after it.
    last: Option<TargetId>,
    /// When all time that searches have taken is paid: each second costs [`SHARE`] seconds. It lies
    /// ahead of now by at most [`BURST`] times [`SHARE`] before searches pause.
    paid: Instant,
}

/// The questions of one target.
#[derive(Debug, Default)]
struct Searches {
    running: Option<(Vec<Question>, HolderSearch)>,
    waiting: Vec<Question>,
    /// The processes that the waiting questions name.
    among: HashSet<ProcessKey>,
}

/// Which processes hold these outputs of a dead process?
#[derive(Debug)]
struct Question {
    dead: ProcessKey,
    outputs: [Option<FileId>; 2],
}

impl HolderSearches {
    pub(super) fn new() -> Self {
        Self { of_targets: BTreeMap::new(), last: None, paid: Instant::now() }
    }

    /// Lets a question wait for the next search of its target.
    pub(super) fn ask(
        &mut self,
        target: TargetId,
        dead: ProcessKey,
        outputs: [Option<FileId>; 2],
        among: Vec<ProcessKey>,
    ) {
        let searches = self.of_targets.entry(target).or_default();
        searches.waiting.push(Question { dead, outputs });
        searches.among.extend(among);
    }

    /// Drops the questions of a target that has ended.
    pub(super) fn forget(&mut self, target: TargetId) {
        self.of_targets.remove(&target);
    }

    /// How long until a search may continue; `None` if there is no search.
    pub(super) fn due_after(&self) -> Option<Duration> {
        // Asked after each batch of records, mostly without any search.
        (!self.of_targets.is_empty()).then(|| {
            let ahead = self.paid.saturating_duration_since(Instant::now());
            ahead.saturating_sub(BURST * SHARE)
        })
    }

    /// Continues the search of the next target. Returns the complete searches' questions with
    /// their answers: the processes that hold one of the outputs.
    fn advance(&mut self) -> Vec<(TargetId, ProcessKey, Vec<ProcessKey>)> {
        let after = self.last.and_then(|last| {
            let after = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            self.of_targets.range(after).next().map(|(id, _)| *id)
        });
        let Some(id) = after.or_else(|| self.of_targets.keys().next().copied()) else {
            return Vec::new();
        };
        self.last = Some(id);
        let Some(searches) = self.of_targets.get_mut(&id) else { return Vec::new() };
        let began = Instant::now();
        let answers = searches.advance(began + SLICE);
        if searches.running.is_none() && searches.waiting.is_empty() {
            self.of_targets.remove(&id);
        }
        self.paid = self.paid.max(began) + began.elapsed() * SHARE;
        answers.into_iter().map(|(dead, holders)| (id, dead, holders)).collect()
    }
}

impl Searches {
    /// Searches until `until`. Returns the answers if the search is complete.
    fn advance(&mut self, until: Instant) -> Vec<(ProcessKey, Vec<ProcessKey>)> {
        let (questions, mut search) = self.running.take().unwrap_or_else(|| self.next());
        if !search.advance(until) {
            self.running = Some((questions, search));
            return Vec::new();
        }
        let held = search.into_holders();
        let holders = |outputs: [Option<FileId>; 2]| {
            let of_outputs = held.iter().filter(|(_, file)| outputs.contains(&Some(*file)));
            of_outputs.map(|(key, _)| *key).collect()
        };
        questions.iter().map(|question| (question.dead, holders(question.outputs))).collect()
    }

    /// The search for all questions that wait.
    fn next(&mut self) -> (Vec<Question>, HolderSearch) {
        let questions = std::mem::take(&mut self.waiting);
        let files = questions.iter().flat_map(|question| question.outputs).flatten().collect();
        let among = std::mem::take(&mut self.among).into_iter().collect();
        (questions, HolderSearch::new(files, among))
    }
}

impl Pipeline {
    /// Continues one search for holders, if their share of the time allows it. Returns whether it
    /// is complete, so that the tracker has the answers to its questions.
    pub(super) fn search_holders(&mut self) -> bool {
        if self.holders.due_after() != Some(Duration::ZERO) {
            return false;
        }
        let answers = self.holders.advance();
        for (target, dead, holders) in &answers {
            self.tracker.set_holders(*target, *dead, holders, monotonic_ns());
        }
        !answers.is_empty()
    }
}

#[cfg(test)]
mod tests;
