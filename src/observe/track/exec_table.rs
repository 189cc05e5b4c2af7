//! Init and the execs that the shim has started in one container, with the process of each.

use std::{collections::VecDeque, sync::Arc};

use super::tree::Index;
use crate::model::{Ended, ProcessId};

/// How many entries are kept. The entry of an exec is removed when its process is done; the entries
/// of execs that failed stay. Beyond this number the oldest entry is dropped. If the process of
/// that exec appears later, it is reported without its exec id.
const ENTRIES_MAX: usize = 1024;

/// The entries of init and of the execs of one container, oldest first.
#[derive(Debug, Default)]
pub(super) struct ExecTable {
    entries: VecDeque<ExecEntry>,
}

/// How many stages of the runtime are kept for an exec; runc and crun have at most three.
const STAGES_MAX: usize = 8;

/// The entry of init or of one exec.
#[derive(Debug)]
pub(super) struct ExecEntry {
    /// Whether the entry is about init or about an exec, with its id.
    pub(super) process: ProcessId,
    /// The pid of the runtime (`runc exec`) that makes the process; `None` until the shim has
    /// reported it.
    pub(super) runtime_pid: Option<i32>,
    /// The processes that the runtime and its stages have forked, [`STAGES_MAX`] at most.
    stages: Vec<i32>,
    /// The pid of the process of init or of the exec; `None` until the shim has reported it.
    pub(super) own_pid: Option<i32>,
    /// That process in the tree, from its first event until it is done.
    pub(super) root: Option<Index>,
    /// Whether that process has been reported, or can no longer appear.
    pub(super) is_resolved: bool,
    /// Whether that process is done only after the shim's own pipes of it have ended.
    pub(super) expects_output_end: bool,
    /// Whether the shim's own pipes of that process have ended.
    pub(super) output_ended: bool,
    /// The exit that the reaper reported before any record of that process was received.
    pub(super) reaped: Option<ReapedExit>,
}

/// An exit as the shim's reaper reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReapedExit {
    pub(super) pid: i32,
    pub(super) ended: Ended,
    pub(super) at_ns: u64,
}

impl ExecEntry {
    fn is_init(&self) -> bool {
        self.process == ProcessId::Init
    }

    /// Whether this is the pid of the runtime that makes the process of the entry, or of a stage of
    /// that runtime.
    fn is_made_by(&self, pid: i32) -> bool {
        self.runtime_pid == Some(pid) || self.stages.contains(&pid)
    }

    /// The exec id; `None` for init.
    fn exec_id(&self) -> Option<Arc<str>> {
        match &self.process {
            ProcessId::Init => None,
            ProcessId::Exec(exec_id) => Some(exec_id.clone()),
        }
    }
}

impl ExecTable {
    /// The entry with this id; adds one if there is none.
    pub(super) fn entry(&mut self, process: &ProcessId) -> &mut ExecEntry {
        let index =
            self.entries.iter().position(|entry| entry.process == *process).unwrap_or_else(|| {
                if self.entries.len() >= ENTRIES_MAX {
                    // Init's entry is the first and is used for as long as the container lives.
                    let oldest = usize::from(self.entries.front().is_some_and(ExecEntry::is_init));
                    self.entries.remove(oldest);
                }
                self.entries.push_back(ExecEntry {
                    process: process.clone(),
                    runtime_pid: None,
                    stages: Vec::new(),
                    own_pid: None,
                    root: None,
                    is_resolved: false,
                    expects_output_end: false,
                    output_ended: false,
                    reaped: None,
                });
                self.entries.len() - 1
            });
        &mut self.entries[index]
    }

    /// The entry for a new process with this id. containerd may use the id of a deleted exec again:
    /// the entry of the old one is dropped.
    pub(super) fn restart(&mut self, process: &ProcessId) -> &mut ExecEntry {
        // An old entry has the pid of its runtime. An entry without that pid is about the new
        // process: another report of it came before that of its runtime. It is kept.
        self.entries.retain(|entry| entry.process != *process || entry.runtime_pid.is_none());
        self.entry(process)
    }

    pub(super) fn find(&self, process: &ProcessId) -> Option<&ExecEntry> {
        self.entries.iter().find(|entry| entry.process == *process)
    }

    pub(super) fn find_mut(&mut self, process: &ProcessId) -> Option<&mut ExecEntry> {
        self.entries.iter_mut().find(|entry| entry.process == *process)
    }

    /// The entry of which this is the process; `None` for any other process.
    pub(super) fn entry_of_root(&self, root: Index) -> Option<&ExecEntry> {
        self.entries.iter().find(|entry| entry.root == Some(root))
    }

    pub(super) fn entry_of_root_mut(&mut self, root: Index) -> Option<&mut ExecEntry> {
        self.entries.iter_mut().find(|entry| entry.root == Some(root))
    }

    /// The exec of which the shim has reported this pid as that of the process, if no event of the
    /// process is known yet.
    pub(super) fn exec_with_pid(&self, pid: i32) -> Option<Arc<str>> {
        let waiting = self.entries.iter().rev().filter(|entry| entry.root.is_none());
        waiting.filter(|entry| entry.own_pid == Some(pid)).find_map(ExecEntry::exec_id)
    }

    /// The exec for which the runtime with this pid, or a stage of it, makes the process.
    pub(super) fn exec_of_runtime(&self, pid: i32) -> Option<Arc<str>> {
        // The newest entry is searched first: the kernel may have reused the pid of an older
        // runtime.
        self.entries.iter().rev().find(|entry| entry.is_made_by(pid))?.exec_id()
    }

    /// A process was forked that is not reported. If its parent is a runtime or a stage, it is a
    /// stage too.
    pub(super) fn note_stage(&mut self, parent: i32, child: i32) {
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.is_made_by(parent))
            && entry.stages.len() < STAGES_MAX
        {
            entry.stages.push(child);
        }
    }

    /// Whether there is an exec of which the process has not been reported and can still appear.
    pub(super) fn has_unresolved(&self) -> bool {
        self.entries.iter().any(|entry| !entry.is_resolved && !entry.is_init())
    }

    /// Removes the entry of an exec that is done. Init's entry stays, without its process.
    pub(super) fn remove_done(&mut self, root: Index) {
        self.entries.retain(|entry| entry.root != Some(root) || entry.is_init());
        if let Some(init) = self.entry_of_root_mut(root) {
            init.root = None;
        }
    }
}
