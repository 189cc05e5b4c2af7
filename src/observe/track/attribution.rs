//! Attribution a process is: the user's, or a stage of the runtime; and how it came here.
//!
//! In a container's cgroup the runtime forks and execs stages of its own before the user's program.
//! They are known by three things, in this order: a process that descends from a told one is the
//! user's, whatever it calls itself; an exec in the shim's own mounts is a stage; and where the
//! source cannot tell the mounts, an image that looks like the runtime's under a parent that is the
//! runtime's.

use std::sync::Arc;

use super::{exec_table::ExecTable, target::Target, tree::Index};
use crate::model::{Image, Lineage, Origin, ProcessKey};

/// How many ancestors that were not told are asked for their parents.
const STAGES_MAX: usize = 8;

/// What an exec of a process that was not told means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attribution {
    /// The runtime's: not told.
    Stage,
    /// The user's.
    User {
        origin: Origin,
        exec_id: Option<Arc<str>>,
        /// Whether it is init or the exec's own process.
        root: bool,
    },
}

impl Attribution {
    fn descendant(exec_id: Option<Arc<str>>) -> Self {
        Self::User { origin: Origin::Descendant, exec_id, root: false }
    }
}

/// What an exec shows of its process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) key: ProcessKey,
    pub(super) lineage: Lineage,
    pub(super) image: &'a Image,
    pub(super) in_host_mounts: Option<bool>,
}

impl Target {
    /// Decides. `node`: the process, where it is known; `parent`: its parent, where that is.
    pub(super) fn whose(
        &self,
        shown: Shown<'_>,
        node: Option<Index>,
        parent: Option<Index>,
    ) -> Attribution {
        if let Some(told) = self.tree.told_from(parent) {
            return Attribution::descendant(
                self.tree.node(told).process.as_ref().and_then(|told| told.exec_id.clone()),
            );
        }
        if let Some(exec_id) = self.tree.told_once(shown.lineage) {
            return Attribution::descendant(exec_id);
        }
        let Some(init) = self.init else { return Attribution::descendant(None) };
        let pids = self.pids_above(shown.lineage, node, parent);
        let from_shim = pids.contains(&self.shim_pid);
        let exec_id = exec_id_of(&self.calls, shown.key.pid, &pids);
        // Init's parent may be the runtime or, once that has ended, the shim or who adopted it.
        let from_runtime = from_shim || exec_id.is_some() || shown.key.pid == init;
        // Who else comes in with the host's mounts came without the runtime: nsenter without
        // `--mount`.
        let is_stage = shown.in_host_mounts.unwrap_or_else(|| self.looks_like_runtime(shown.image));
        if from_runtime && is_stage {
            return Attribution::Stage;
        }
        if shown.key.pid == init {
            return Attribution::User { origin: Origin::Init, exec_id: None, root: true };
        }
        if pids.contains(&init) && !self.init_started {
            // A hook that the runtime runs in the container before the user's program.
            return Attribution::Stage;
        }
        if exec_id.is_some() {
            return Attribution::User { origin: Origin::Exec, exec_id, root: true };
        }
        if from_shim {
            return Attribution::User {
                origin: Origin::Exec,
                exec_id: self.calls.only_open(),
                root: true,
            };
        }
        Attribution::User { origin: Origin::Injected, exec_id: None, root: false }
    }

    /// The pids of parents and grandparents: now, at birth, and of those above that were not told.
    fn pids_above(&self, lineage: Lineage, node: Option<Index>, parent: Option<Index>) -> Vec<i32> {
        let mut pids = vec![lineage.parent_pid, lineage.grandparent_pid];
        let mut above = node.or(parent);
        for _ in 0..STAGES_MAX {
            let Some(index) = above else { break };
            let lineage = self.tree.node(index).lineage;
            pids.extend([lineage.parent_pid, lineage.grandparent_pid]);
            above = self.tree.parent(index);
        }
        pids.retain(|&pid| pid > 0);
        pids
    }

    /// `runc init` in its disguises, or the runtime's own file.
    fn looks_like_runtime(&self, image: &Image) -> bool {
        let executable = image.executable.as_deref().unwrap_or_default();
        if [&b"/proc/self/fd/"[..], b"/memfd:runc_cloned", b"memfd:runc_cloned"]
            .iter()
            .any(|cloned| executable.starts_with(cloned))
        {
            return true;
        }
        if self.runtime_path.as_deref() == Some(executable) && !executable.is_empty() {
            return true;
        }
        let Some(args) = &image.args else { return false };
        let mut args = args.iter();
        let first = args.next().unwrap_or_default();
        let init = args.next() == Some(b"init") && args.next().is_none();
        init && (first == b"runc" || first == b"/proc/self/exe" || first.ends_with(b"/runc"))
    }
}

/// The exec that a process was made for.
fn exec_id_of(calls: &ExecTable, pid: i32, above: &[i32]) -> Option<Arc<str>> {
    calls
        .named(pid)
        .or_else(|| calls.made_by(pid))
        .or_else(|| above.iter().find_map(|&above| calls.made_by(above)))
        .filter(|exec_id| !exec_id.is_empty())
}
