//! What the shim asked its runtime for in one container, and what came of it.

use std::{collections::VecDeque, sync::Arc};

use super::tree::Index;

/// How many calls are remembered. A call is over when its process is done; those of execs that
/// failed stay. Beyond this the oldest is forgotten: its process would be told without its exec id.
const CALLS_MAX: usize = 1024;

/// Init's and each exec's, oldest first.
#[derive(Debug, Default)]
pub(super) struct ExecTable {
    calls: VecDeque<Call>,
}

/// Init (its exec id is empty) or an exec.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) exec_id: Arc<str>,
    /// The runtime's child that makes the process; 0: not told.
    pub(super) runtime_pid: i32,
    /// The process's own pid, where the shim said it; else 0.
    pub(super) own_pid: i32,
    /// The process, from its first told event until it is done.
    pub(super) root: Option<Index>,
    /// Whether its process was told, or can no longer come.
    pub(super) settled: bool,
    /// Whether done waits for the end of pipes.
    pub(super) expects_output_end: bool,
    pub(super) output_ended: bool,
    /// What the reaper said before any record of the process came: pid, status as go-runc has it,
    /// time.
    pub(super) reaped: Option<(i32, u32, u64)>,
}

impl ExecTable {
    /// The call with this id, made where there is none.
    pub(super) fn entry(&mut self, exec_id: &str) -> &mut Call {
        let place =
            self.calls.iter().position(|call| *call.exec_id == *exec_id).unwrap_or_else(|| {
                if self.calls.len() >= CALLS_MAX {
                    // Init's call is the first and is used for as long as the container lives.
                    let oldest =
                        usize::from(self.calls.front().is_some_and(|call| call.exec_id.is_empty()));
                    self.calls.remove(oldest);
                }
                self.calls.push_back(Call {
                    exec_id: exec_id.into(),
                    runtime_pid: 0,
                    own_pid: 0,
                    root: None,
                    settled: false,
                    expects_output_end: false,
                    output_ended: false,
                    reaped: None,
                });
                self.calls.len() - 1
            });
        &mut self.calls[place]
    }

    /// A new process for this id: what was known of an older one is its past.
    pub(super) fn anew(&mut self, exec_id: &str) -> &mut Call {
        self.calls.retain(|call| *call.exec_id != *exec_id || call.runtime_pid == 0);
        self.entry(exec_id)
    }

    pub(super) fn find(&self, exec_id: &str) -> Option<&Call> {
        self.calls.iter().find(|call| *call.exec_id == *exec_id)
    }

    pub(super) fn find_mut(&mut self, exec_id: &str) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| *call.exec_id == *exec_id)
    }

    /// The call whose process this is.
    pub(super) fn of_root(&self, root: Index) -> Option<&Call> {
        self.calls.iter().find(|call| call.root == Some(root))
    }

    pub(super) fn of_root_mut(&mut self, root: Index) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.root == Some(root))
    }

    /// The exec whose own process has this pid, as the shim said.
    pub(super) fn named(&self, pid: i32) -> Option<Arc<str>> {
        let mut named =
            self.calls.iter().rev().filter(|call| call.root.is_none() && !call.exec_id.is_empty());
        named.find(|call| call.own_pid == pid && pid > 0).map(|call| call.exec_id.clone())
    }

    /// The exec that a runtime's child with this pid makes. The youngest, where a pid came again.
    pub(super) fn made_by(&self, pid: i32) -> Option<Arc<str>> {
        let call = self.calls.iter().rev().find(|call| call.runtime_pid == pid && pid > 0)?;
        Some(call.exec_id.clone())
    }

    /// The only exec whose process has not come yet; `None` where there are several.
    pub(super) fn only_open(&self) -> Option<Arc<str>> {
        let mut open = self.calls.iter().filter(|call| !call.settled && !call.exec_id.is_empty());
        let first = open.next()?;
        open.next().is_none().then(|| first.exec_id.clone())
    }

    /// Forgets an exec that is done. Init's stays.
    pub(super) fn over(&mut self, root: Index) {
        self.calls.retain(|call| call.root != Some(root) || call.exec_id.is_empty());
        if let Some(init) = self.of_root_mut(root) {
            init.root = None;
        }
    }
}
