//! The calls of the OCI runtime for one container, and the records of their processes.
//!
//! A call that makes the process of an exec has two kinds of processes: those of the runtime, and
//! that one process with its descendants. Only the runtime knows which is which, and it reports
//! the pid (the root of the exec) when it has made the process. Until then the records wait here:
//!
//! ```text
//!  call_began ──► records wait ──► the root is known ──► the root, the stages, and others
//!                     └─ too long, or too many records ──► reported with an unknown origin
//! ```

use std::{collections::VecDeque, mem, sync::Arc};

use super::output::Stamp;
use crate::{
    model::ProcessKey,
    observe::record::{CallId, Provenance, What},
};

/// How long records wait for the root, in nanoseconds. A runtime needs some ten milliseconds; a
/// call that hangs must not withhold for ever what it has started.
pub(super) const WAIT_MAX_NS: u64 = 10_000_000_000;

/// How many records of one call may wait.
const WAITING_MAX: usize = 4096;

/// How many bytes of arguments the waiting records of one call may have.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How many ended calls with an exec are kept, for the descendants of the exec whose parents are
/// not known because of a loss.
const ENDED_MAX: usize = 256;

/// How many processes of a call that are not reported are kept. A runtime has three or four; more
/// are a hook's, and a scan finds them when the call has ended.
const UNREPORTED_MAX: usize = 64;

/// The calls that have not ended, and the last that have.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: Vec<RuntimeCall>,
    ended: VecDeque<(CallId, Option<Arc<str>>)>,
}

#[derive(Debug)]
struct RuntimeCall {
    id: CallId,
    /// The exec whose process the call makes; `None` for a call of another purpose.
    exec_id: Option<Arc<str>>,
    began_ns: u64,
    /// The pid of the process that the call has made; `None` before it is known.
    root: Option<i32>,
    /// The processes above the root, up to the runtime: its stages. `None` before the root is known
    /// and a record of it has been read.
    stages: Option<Vec<ProcessKey>>,
    /// Whether records no longer wait, although the root is not known.
    is_overdue: bool,
    has_ended: bool,
    /// Whether records were lost since the call began, so that the exec of the root may be missing.
    is_lossy: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// The processes that were not reported and have not exited.
    unreported: Vec<ProcessKey>,
}

/// A record that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) stamp: Stamp,
    pub(super) key: ProcessKey,
    /// `None` where the source does not know: then only what may be the root waits.
    pub(super) provenance: Option<Provenance>,
    pub(super) what: What,
}

/// What a process of a call is, as far as the call shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The process of this exec itself.
    Root(Arc<str>),
    /// A process of the runtime on the way to the root, or one that may still become the root.
    Stage,
    /// Another process of the runtime, such as a hook.
    Other,
    /// It cannot be known yet, and the wait is over.
    Overdue,
    /// The call has ended, so that nothing of the runtime is left but what it has left behind. The
    /// value is the exec that the call made.
    Left(Option<Arc<str>>),
}

impl Calls {
    pub(super) fn began(&mut self, id: CallId, exec_id: Option<Arc<str>>, now_ns: u64) {
        self.open.push(RuntimeCall {
            id,
            exec_id,
            began_ns: now_ns,
            root: None,
            stages: None,
            is_overdue: false,
            has_ended: false,
            is_lossy: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            unreported: Vec::new(),
        });
    }

    /// Whether the records of this call wait.
    pub(super) fn waits(&self, id: CallId) -> bool {
        self.get(id).is_some_and(RuntimeCall::waits)
    }

    /// Whether a record of this process waits.
    pub(super) fn is_waiting(&self, key: ProcessKey) -> bool {
        self.open.iter().flat_map(|call| &call.waiting).any(|record| record.key.may_be(key))
    }

    /// The call in which a record must wait because an earlier record of its process waits there,
    /// or, for a fork, one of the parent's.
    pub(super) fn waits_behind(&self, key: ProcessKey, what: &What) -> Option<CallId> {
        let parent = match what {
            What::Fork(lineage) => lineage.parent,
            _ => None,
        };
        let is_earlier = |record: &Waiting| {
            record.key.may_be(key) || parent.is_some_and(|parent| record.key.may_be(parent))
        };
        self.open.iter().find(|call| call.waiting.iter().any(is_earlier)).map(|call| call.id)
    }

    /// The newest call of which any child of the shim may still be the root.
    pub(super) fn without_root(&self) -> Option<CallId> {
        let mut open = self.open.iter().rev();
        open.find(|call| call.waits() && call.root.is_none()).map(|call| call.id)
    }

    /// Whether any call may still have a process that will be the root of an exec.
    pub(super) fn any_waits(&self) -> bool {
        self.open.iter().any(RuntimeCall::waits)
    }

    /// Lets a record wait. Returns all records of the call if this is the record that they have
    /// waited for, or if they are too many: they do not wait any longer.
    pub(super) fn wait(&mut self, id: CallId, record: Waiting) -> Vec<Waiting> {
        let Some(call) = self.find(id) else { return vec![record] };
        let is_root = call.is_root(record.key);
        if let What::Exec { image, .. } = &record.what {
            call.waiting_bytes += image.args.as_ref().map_or(0, |args| args.bytes.len());
        }
        call.waiting.push(record);
        if is_root {
            return call.resolve();
        }
        if call.waiting.len() <= WAITING_MAX && call.waiting_bytes <= WAITING_BYTES_MAX {
            return Vec::new();
        }
        call.is_overdue = true;
        mem::take(&mut call.waiting)
    }

    /// The process of an exec is known. Returns the records that have waited for that; none if no
    /// record of the process has been read yet.
    pub(super) fn root_is(&mut self, exec_id: &str, pid: i32) -> Vec<Waiting> {
        // The newest, as the id of an exec that has ended may be used again.
        let made = |call: &&mut RuntimeCall| call.exec_id.as_deref() == Some(exec_id);
        let Some(call) = self.open.iter_mut().rev().find(made) else { return Vec::new() };
        call.root = Some(pid);
        match call.waiting.iter().any(|record| record.key.pid == pid) {
            true => call.resolve(),
            false => Vec::new(),
        }
    }

    /// All records of the call have been read. Returns those that wait for a root of which there is
    /// no record.
    pub(super) fn ends(&mut self, id: CallId) -> Vec<Waiting> {
        self.find(id).map(RuntimeCall::resolve).unwrap_or_default()
    }

    /// A call has ended, and no record waits. Returns whether processes of the call are left, which
    /// a scan must find.
    ///
    /// The root is not one of them unless its exec may have been lost: runc returns before the root
    /// executes the user's program.
    pub(super) fn ended(&mut self, id: CallId) -> bool {
        let Some(call) = self.find(id) else { return false };
        call.has_ended = true;
        let is_left =
            call.unreported.iter().any(|process| call.is_lossy || !call.is_root(*process));
        self.forget_ended();
        is_left
    }

    /// The calls whose records have waited for too long; they do not wait any longer. Returns the
    /// records.
    pub(super) fn overdue(&mut self, now_ns: u64) -> Vec<Waiting> {
        let mut all = Vec::new();
        for call in &mut self.open {
            if !call.waiting.is_empty() && call.is_late(now_ns) {
                call.is_overdue = true;
                all.append(&mut call.waiting);
            }
        }
        all
    }

    /// Whether a root has not executed anything long after its call has ended, which a scan must
    /// then report: a runtime may run the user's program itself. True once for each such root.
    pub(super) fn has_overdue_root(&mut self, now_ns: u64) -> bool {
        let mut found = false;
        for call in &mut self.open {
            if call.awaits_exec() && call.is_late(now_ns) {
                call.is_overdue = true;
                found = true;
            }
        }
        found
    }

    /// Whether a record waits, or a root has not executed anything, so that
    /// [`overdue`](Self::overdue) and [`has_overdue_root`](Self::has_overdue_root) must be called.
    pub(super) fn has_waiting(&self) -> bool {
        self.open.iter().any(|call| !call.waiting.is_empty() || call.awaits_exec())
    }

    /// Whether an unreported process runs the runtime's code until a record shows that it executes
    /// the user's program.
    pub(super) fn will_exec(&self, id: CallId, key: ProcessKey) -> bool {
        self.get(id).is_some_and(|call| {
            call.is_root(key) && !(call.has_ended && (call.is_lossy || call.is_overdue))
        })
    }

    /// When a call that has not ended began.
    pub(super) fn began_ns(&self, id: CallId) -> Option<u64> {
        self.get(id).map(|call| call.began_ns)
    }

    /// Records were lost.
    pub(super) fn lost(&mut self) {
        for call in &mut self.open {
            call.is_lossy = true;
        }
    }

    /// What a process of a call is.
    pub(super) fn part(&self, id: CallId, key: ProcessKey) -> Part {
        let Some(call) = self.get(id) else { return Part::Left(self.exec_of(id).cloned()) };
        match (&call.exec_id, call.root) {
            (Some(exec_id), Some(root)) if root == key.pid => Part::Root(exec_id.clone()),
            _ if call.has_ended => Part::Left(call.exec_id.clone()),
            (Some(_), None) if call.is_overdue => Part::Overdue,
            (Some(_), None) => Part::Stage,
            _ => match &call.stages {
                Some(stages) if stages.iter().any(|stage| stage.may_be(key)) => Part::Stage,
                _ => Part::Other,
            },
        }
    }

    /// The exec whose process a call makes or has made.
    pub(super) fn exec_of(&self, id: CallId) -> Option<&Arc<str>> {
        match self.get(id) {
            Some(call) => call.exec_id.as_ref(),
            None => self.ended.iter().rev().find(|(ended, _)| *ended == id)?.1.as_ref(),
        }
    }

    /// The call of a process that was not reported.
    pub(super) fn call_of(&self, key: ProcessKey) -> Option<CallId> {
        let has = |call: &&RuntimeCall| call.unreported.iter().any(|one| one.may_be(key));
        self.open.iter().find(has).map(|call| call.id)
    }

    /// A process of a call is alive and was not reported.
    pub(super) fn note_unreported(&mut self, id: CallId, key: ProcessKey) {
        if let Some(call) = self.find(id)
            && call.unreported.len() < UNREPORTED_MAX
            && !call.unreported.contains(&key)
        {
            call.unreported.push(key);
        }
    }

    /// A process was reported, or has exited.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        if self.open.is_empty() {
            return;
        }
        for call in &mut self.open {
            call.unreported.retain(|one| !one.may_be(key));
        }
        self.forget_ended();
    }

    /// Keeps of the ended calls only those with a process that is not reported; of the others, the
    /// exec that they made.
    fn forget_ended(&mut self) {
        let is_over = |call: &mut RuntimeCall| call.has_ended && call.unreported.is_empty();
        for call in self.open.extract_if(.., is_over) {
            if self.ended.len() >= ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back((call.id, call.exec_id));
        }
    }

    fn get(&self, id: CallId) -> Option<&RuntimeCall> {
        self.open.iter().find(|call| call.id == id)
    }

    fn find(&mut self, id: CallId) -> Option<&mut RuntimeCall> {
        self.open.iter_mut().find(|call| call.id == id)
    }
}

impl RuntimeCall {
    /// Whether the records of the call wait.
    fn waits(&self) -> bool {
        self.exec_id.is_some() && self.stages.is_none() && !self.is_overdue && !self.has_ended
    }

    fn is_root(&self, process: ProcessKey) -> bool {
        self.root == Some(process.pid)
    }

    /// Whether the call began so long ago that nothing waits for it any longer.
    fn is_late(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.began_ns) >= WAIT_MAX_NS
    }

    /// Whether the call has ended and its root has not executed anything.
    fn awaits_exec(&self) -> bool {
        let mut unreported = self.unreported.iter();
        self.has_ended && !self.is_overdue && unreported.any(|process| self.is_root(*process))
    }

    /// Finds the stages: follows the forks that wait from the root upwards. Returns the records,
    /// which do not wait any longer.
    fn resolve(&mut self) -> Vec<Waiting> {
        let mut stages = Vec::new();
        let mut below = self.root;
        for record in self.waiting.iter().rev() {
            let What::Fork(lineage) = &record.what else { continue };
            if Some(record.key.pid) == below {
                below = lineage.parent_pid();
                stages.extend(lineage.parent);
            }
        }
        self.stages = Some(stages);
        mem::take(&mut self.waiting)
    }
}
