//! Init and the execs that the shim has started in one container, with the process of each.

use std::{collections::VecDeque, sync::Arc};

use super::tree::Index;
use crate::model::Ended;

/// How many entries are kept. The entry of an exec is removed when its process is done; the entries
/// of execs that failed stay. Beyond this number the oldest entry is dropped. If the process of
/// that exec appears later, it is reported without its exec id.
const ENTRIES_MAX: usize = 1024;

/// The entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct ExecTable {
    entries: VecDeque<ExecEntry>,
}

/// Init or an exec.
#[derive(Debug)]
pub(super) struct ExecEntry {
    /// The exec id in containerd; empty for init.
    pub(super) exec_id: Arc<str>,
    /// The pid of the runtime (`runc exec`) that makes the process; 0 where the shim has not
    /// reported it.
    pub(super) runtime_pid: i32,
    /// The pid of the process; 0 where the shim has not reported it.
    pub(super) own_pid: i32,
    /// The process, from its first event until it is done.
    pub(super) root: Option<Index>,
    /// Whether the process has been reported, or can no longer appear.
    pub(super) is_resolved: bool,
    /// Whether the process is done only after the shim's own pipes of it have ended.
    pub(super) expects_output_end: bool,
    pub(super) output_ended: bool,
    /// The exit that the reaper reported before any record of the process was received.
    pub(super) reaped: Option<ReapedExit>,
}

/// An exit as the shim's reaper reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReapedExit {
    pub(super) pid: i32,
    pub(super) ended: Ended,
    pub(super) at_ns: u64,
}

impl ExecTable {
    /// The entry with this id; adds one if there is none.
    pub(super) fn entry(&mut self, exec_id: &str) -> &mut ExecEntry {
        let index =
            self.entries.iter().position(|entry| *entry.exec_id == *exec_id).unwrap_or_else(|| {
                if self.entries.len() >= ENTRIES_MAX {
                    // Init's entry is the first and is used for as long as the container lives.
                    let oldest = usize::from(
                        self.entries.front().is_some_and(|entry| entry.exec_id.is_empty()),
                    );
                    self.entries.remove(oldest);
                }
                self.entries.push_back(ExecEntry {
                    exec_id: exec_id.into(),
                    runtime_pid: 0,
                    own_pid: 0,
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
    pub(super) fn restart(&mut self, exec_id: &str) -> &mut ExecEntry {
        // An entry without a runtime pid was made for this same process, by an earlier report.
        self.entries.retain(|entry| *entry.exec_id != *exec_id || entry.runtime_pid == 0);
        self.entry(exec_id)
    }

    pub(super) fn find(&self, exec_id: &str) -> Option<&ExecEntry> {
        self.entries.iter().find(|entry| *entry.exec_id == *exec_id)
    }

    pub(super) fn find_mut(&mut self, exec_id: &str) -> Option<&mut ExecEntry> {
        self.entries.iter_mut().find(|entry| *entry.exec_id == *exec_id)
    }

    /// The entry of this process.
    pub(super) fn of_root(&self, root: Index) -> Option<&ExecEntry> {
        self.entries.iter().find(|entry| entry.root == Some(root))
    }

    pub(super) fn of_root_mut(&mut self, root: Index) -> Option<&mut ExecEntry> {
        self.entries.iter_mut().find(|entry| entry.root == Some(root))
    }

    /// The exec for which the shim reported this pid as that of its process, and of which no event
    /// of the process is known yet.
    pub(super) fn exec_with_pid(&self, pid: i32) -> Option<Arc<str>> {
        self.entries
            .iter()
            .rev()
            .filter(|entry| entry.root.is_none() && !entry.exec_id.is_empty())
            // 0 means unknown, here and in a record.
            .find(|entry| entry.own_pid == pid && pid > 0)
            .map(|entry| entry.exec_id.clone())
    }

    /// The exec for which the runtime with this pid makes the process.
    pub(super) fn exec_of_runtime(&self, pid: i32) -> Option<Arc<str>> {
        // The newest entry is searched first: the kernel may have reused the pid of an older
        // runtime.
        let entry = self.entries.iter().rev().find(|entry| entry.runtime_pid == pid && pid > 0)?;
        Some(entry.exec_id.clone())
    }

    /// The only exec that is not resolved yet; `None` if there are several such execs or none.
    pub(super) fn only_unresolved(&self) -> Option<Arc<str>> {
        let mut unresolved =
            self.entries.iter().filter(|entry| !entry.is_resolved && !entry.exec_id.is_empty());
        let first = unresolved.next()?;
        unresolved.next().is_none().then(|| first.exec_id.clone())
    }

    /// Removes the entry of an exec that is done. Init's entry stays, without its process.
    pub(super) fn remove_done(&mut self, root: Index) {
        self.entries.retain(|entry| entry.root != Some(root) || entry.exec_id.is_empty());
        if let Some(init) = self.of_root_mut(root) {
            init.root = None;
        }
    }
}
