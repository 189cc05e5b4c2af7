//! The runtime calls for one container, and the records of their processes.
//!
//! A call that makes the process of an exec has two kinds of processes: those of the runtime, and
//! that one process (the root of the exec) with its descendants. Only the runtime knows which
//! process is the root, and it reports the pid when it has made it. Until then the records wait
//! here:
//!
//! ```text
//!  call_began ──► records wait ──► the root is known ──► the root, the stages, and others
//!                     └─ too long, or too many records ──► reported with an unknown origin
//! ```

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use super::output::Stamp;
use crate::{
    model::ProcessKey,
    observe::record::{CallId, Provenance, What},
};

/// How long records wait for the root, in nanoseconds since the beginning of the call. A runtime
/// needs some ten milliseconds; the processes of a call that hangs must be reported too.
pub(super) const WAIT_MAX_NS: u64 = 10_000_000_000;

/// How many records of one call may wait.
const WAITING_RECORDS_MAX: usize = 4096;

/// How many bytes of arguments the waiting records of one call may have.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How many ended calls are remembered with their exec. They attribute processes of the exec with a
/// parent that is not known, because records were lost.
const ENDED_CALLS_MAX: usize = 256;

/// How many unreported processes of one call are remembered. A runtime has three or four; further
/// ones are those of hooks, and a scan finds them when the call has ended.
const UNREPORTED_PROCESSES_MAX: usize = 64;

/// The runtime calls of one container: those that have not ended, and the last ones that have.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: Vec<CallState>,
    ended: VecDeque<(CallId, Option<Arc<str>>)>,
}

/// A runtime call that has not ended, or of which a process is still unreported.
#[derive(Debug)]
struct CallState {
    id: CallId,
    /// The id of the exec for which the call makes the process; `None` for a call with another
    /// purpose.
    exec_id: Option<Arc<str>>,
    began_ns: u64,
    /// The pid of the process that the call has made; `None` before it is known.
    root: Option<i32>,
    /// The stages: the processes from the runtime down to the parent of the root. `None` until the
    /// root is known and a record of it has been read.
    stages: Option<Vec<ProcessKey>>,
    /// Whether the records have waited for too long: they no longer wait, although the root is not
    /// known.
    is_overdue: bool,
    has_ended: bool,
    /// Whether records were lost since the call began, so that the exec of the root may be missing.
    is_lossy: bool,
    waiting: Vec<WaitingRecord>,
    /// The pids of the waiting records, each with the time of its first one. Each record of the
    /// container is looked up here.
    waiting_since: HashMap<i32, u64>,
    waiting_bytes: usize,
    /// The processes of the call that were not reported and have not exited.
    unreported: Vec<ProcessKey>,
}

/// A record that waits for the root of a call.
#[derive(Debug)]
pub(super) struct WaitingRecord {
    pub(super) stamp: Stamp,
    pub(super) key: ProcessKey,
    /// Where the process comes from; `None` if the source does not know. Then only records of a
    /// process that may be the root wait.
    pub(super) provenance: Option<Provenance>,
    pub(super) what: What,
}

/// The role of a process in a runtime call, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallRole {
    /// The process of the exec with this id itself.
    Root(Arc<str>),
    /// A stage of the runtime, or a process that may still become the root.
    Stage,
    /// Another process of the runtime, such as a hook.
    Other,
    /// Not known: the root is not known yet, and the records have waited for too long.
    Overdue,
    /// The call has ended, so the process is one that the call has left behind. The value is the id
    /// of the exec for which the call made a process.
    Left(Option<Arc<str>>),
}

impl Calls {
    pub(super) fn call_began(&mut self, id: CallId, exec_id: Option<Arc<str>>, now_ns: u64) {
        self.open.push(CallState {
            id,
            exec_id,
            began_ns: now_ns,
            root: None,
            stages: None,
            is_overdue: false,
            has_ended: false,
            is_lossy: false,
            waiting: Vec::new(),
            waiting_since: HashMap::new(),
            waiting_bytes: 0,
            unreported: Vec::new(),
        });
    }

    /// Whether the records of this call have to wait for its root.
    pub(super) fn records_wait(&self, id: CallId) -> bool {
        self.get(id).is_some_and(CallState::waits)
    }

    /// Whether a record of this process waits in any call.
    pub(super) fn has_waiting_record_of(&self, key: ProcessKey) -> bool {
        self.open.iter().flat_map(|call| &call.waiting).any(|record| record.key.may_be_same(key))
    }

    /// The runtime call for which a record has to wait, because an earlier record with the same pid
    /// waits for it. A fork also waits if an earlier record of the parent does.
    ///
    /// The records of one pid are applied in their order. Otherwise a container could hide a
    /// process of an exec: it gives the pid to another process (clone3 with `set_tid`) before the
    /// exec is known, and when the records of the first process no longer wait, they look like late
    /// records of a process that is known to have ended.
    pub(super) fn call_to_wait_in(&self, record: &WaitingRecord) -> Option<CallId> {
        let parent = match &record.what {
            What::Fork(lineage) => lineage.parent_pid(),
            _ => None,
        };
        let at_ns = record.stamp.at_ns;
        let has_earlier = |call: &&CallState| {
            let waits = |pid| call.waiting_since.get(&pid).is_some_and(|since| *since <= at_ns);
            !call.waiting_since.is_empty() && (waits(record.key.pid) || parent.is_some_and(waits))
        };
        self.open.iter().find(has_earlier).map(|call| call.id)
    }

    /// The newest call without a known root: any new child of the shim may be its root.
    pub(super) fn newest_without_root(&self) -> Option<CallId> {
        let mut open = self.open.iter().rev();
        open.find(|call| call.waits() && call.root.is_none()).map(|call| call.id)
    }

    /// Whether any call may still have a process that will be the root of an exec.
    pub(super) fn any_awaits_root(&self) -> bool {
        self.open.iter().any(CallState::waits)
    }

    /// Adds a record to those that wait in a call. Returns all of them, which then no longer wait,
    /// if this is a record of the root, or if there are too many.
    pub(super) fn add_waiting(&mut self, id: CallId, record: WaitingRecord) -> Vec<WaitingRecord> {
        let Some(call) = self.find(id) else { return vec![record] };
        let is_root = call.is_root(record.key);
        if let What::Exec { image, .. } = &record.what {
            call.waiting_bytes += image.args.as_ref().map_or(0, |args| args.bytes.len());
        }
        call.waiting_since.entry(record.key.pid).or_insert(record.stamp.at_ns);
        call.waiting.push(record);
        if is_root {
            return call.find_stages();
        }
        if call.waiting.len() <= WAITING_RECORDS_MAX && call.waiting_bytes <= WAITING_BYTES_MAX {
            return Vec::new();
        }
        call.is_overdue = true;
        call.take_waiting()
    }

    /// The runtime has reported the pid of an exec's process, the root. Returns the records that
    /// have waited for that; none if no record of the root has been read yet.
    pub(super) fn root_known(&mut self, exec_id: &str, pid: i32) -> Vec<WaitingRecord> {
        // The newest, as the id of an exec that has ended may be used again.
        let made = |call: &&mut CallState| call.exec_id.as_deref() == Some(exec_id);
        let Some(call) = self.open.iter_mut().rev().find(made) else { return Vec::new() };
        call.root = Some(pid);
        match call.waiting.iter().any(|record| record.key.pid == pid) {
            true => call.find_stages(),
            false => Vec::new(),
        }
    }

    /// The call has ended and all its records have been read. Returns those that still wait,
    /// because there is no record of the root.
    pub(super) fn release_at_end(&mut self, id: CallId) -> Vec<WaitingRecord> {
        self.find(id).map(CallState::find_stages).unwrap_or_default()
    }

    /// Notes that a call has ended, of which no record waits. Returns whether the call has left
    /// unreported processes, which a scan must report.
    ///
    /// The root is not one of them unless its exec may have been lost: runc returns before the root
    /// executes the user's program.
    pub(super) fn call_ended(&mut self, id: CallId) -> bool {
        let Some(call) = self.find(id) else { return false };
        call.has_ended = true;
        let is_left =
            call.unreported.iter().any(|process| call.is_lossy || !call.is_root(*process));
        self.forget_ended();
        is_left
    }

    /// Returns the records that have waited for too long, of all calls. They no longer wait.
    pub(super) fn take_overdue(&mut self, now_ns: u64) -> Vec<WaitingRecord> {
        let mut all = Vec::new();
        for call in &mut self.open {
            if !call.waiting.is_empty() && call.is_late(now_ns) {
                call.is_overdue = true;
                all.append(&mut call.take_waiting());
            }
        }
        all
    }

    /// Whether a root has executed nothing long after its call has ended. A scan must then report
    /// it, because a runtime may run the user's program without an exec. True once for each such
    /// root.
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

    /// Whether a record waits, or a root has executed nothing, so that [`overdue`](Self::overdue)
    /// and [`has_overdue_root`](Self::has_overdue_root) must be called.
    pub(super) fn has_waiting(&self) -> bool {
        self.open.iter().any(|call| !call.waiting.is_empty() || call.awaits_exec())
    }

    /// Whether an unreported process is the root of a call and will still execute the user's
    /// program. Until then it runs the runtime's code.
    pub(super) fn will_exec(&self, id: CallId, key: ProcessKey) -> bool {
        self.get(id).is_some_and(|call| {
            call.is_root(key) && !(call.has_ended && (call.is_lossy || call.is_overdue))
        })
    }

    /// When a call began, in nanoseconds; `None` for a call that is forgotten.
    pub(super) fn began_ns(&self, id: CallId) -> Option<u64> {
        self.get(id).map(|call| call.began_ns)
    }

    /// Notes that records of this container were lost.
    pub(super) fn records_lost(&mut self) {
        for call in &mut self.open {
            call.is_lossy = true;
        }
    }

    /// The role of a process in the call.
    pub(super) fn role_of(&self, id: CallId, key: ProcessKey) -> CallRole {
        let Some(call) = self.get(id) else { return CallRole::Left(self.exec_of(id).cloned()) };
        match (&call.exec_id, call.root) {
            (Some(exec_id), Some(root)) if root == key.pid => CallRole::Root(exec_id.clone()),
            _ if call.has_ended => CallRole::Left(call.exec_id.clone()),
            (Some(_), None) if call.is_overdue => CallRole::Overdue,
            (Some(_), None) => CallRole::Stage,
            _ => match &call.stages {
                Some(stages) if stages.iter().any(|stage| stage.may_be_same(key)) => {
                    CallRole::Stage
                }
                _ => CallRole::Other,
            },
        }
    }

    /// The id of the exec for which a call makes or has made the process; `None` for other calls.
    pub(super) fn exec_of(&self, id: CallId) -> Option<&Arc<str>> {
        match self.get(id) {
            Some(call) => call.exec_id.as_ref(),
            None => self.ended.iter().rev().find(|(ended, _)| *ended == id)?.1.as_ref(),
        }
    }

    /// The call to which an unreported process belongs; `None` if it belongs to none.
    pub(super) fn call_of(&self, key: ProcessKey) -> Option<CallId> {
        let has = |call: &&CallState| call.unreported.iter().any(|one| one.may_be_same(key));
        self.open.iter().find(has).map(|call| call.id)
    }

    /// Remembers a process of a call that is alive and was not reported.
    pub(super) fn note_unreported(&mut self, id: CallId, key: ProcessKey) {
        if let Some(call) = self.find(id)
            && call.unreported.len() < UNREPORTED_PROCESSES_MAX
            && !call.unreported.contains(&key)
        {
            call.unreported.push(key);
        }
    }

    /// Forgets an unreported process, because it was reported or has exited.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        if self.open.is_empty() {
            return;
        }
        for call in &mut self.open {
            call.unreported.retain(|one| !one.may_be_same(key));
        }
        self.forget_ended();
    }

    /// Forgets the ended calls without an unreported process, except for the execs for which they
    /// made a process.
    fn forget_ended(&mut self) {
        let is_over = |call: &mut CallState| call.has_ended && call.unreported.is_empty();
        for call in self.open.extract_if(.., is_over) {
            if self.ended.len() >= ENDED_CALLS_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back((call.id, call.exec_id));
        }
    }

    fn get(&self, id: CallId) -> Option<&CallState> {
        self.open.iter().find(|call| call.id == id)
    }

    fn find(&mut self, id: CallId) -> Option<&mut CallState> {
        self.open.iter_mut().find(|call| call.id == id)
    }
}

impl CallState {
    /// Whether the records of the call have to wait for its root.
    fn waits(&self) -> bool {
        self.exec_id.is_some() && self.stages.is_none() && !self.is_overdue && !self.has_ended
    }

    fn is_root(&self, process: ProcessKey) -> bool {
        self.root == Some(process.pid)
    }

    /// Whether the call began so long ago that records no longer wait for its root.
    fn is_late(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.began_ns) >= WAIT_MAX_NS
    }

    /// Whether the call has ended and its root has executed nothing yet.
    fn awaits_exec(&self) -> bool {
        let mut unreported = self.unreported.iter();
        self.has_ended && !self.is_overdue && unreported.any(|process| self.is_root(*process))
    }

    /// Finds the stages, by the waiting forks from the root upwards. Returns the waiting records,
    /// which then no longer wait.
    fn find_stages(&mut self) -> Vec<WaitingRecord> {
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
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Vec<WaitingRecord> {
        self.waiting_since.clear();
        mem::take(&mut self.waiting)
    }
}
