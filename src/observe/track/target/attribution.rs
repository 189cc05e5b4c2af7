//! Attribution: whether a process is a user process or a stage of the runtime (`runc init`), and
//! how it came into its container.
//!
//! In a container's cgroup the runtime forks and executes stages of its own before it executes the
//! container's program. All other processes are user processes. Three rules distinguish them, in
//! this order:
//!
//! 1. A descendant of a reported process is a user process, whatever it calls itself.
//! 2. An exec in the mount namespace of the shim is a stage.
//! 3. Where the source does not know the mount namespace, an exec is a stage if its image looks
//!    like the runtime's and its parent is the runtime's.

use std::sync::Arc;

use super::Target;
use crate::{
    model::{Image, Lineage, Origin, ProcessKey},
    observe::track::{exec_table::ExecTable, tree::Index},
};

/// The largest number of unreported ancestors that are examined.
const STAGES_MAX: usize = 8;

/// The decision about an exec of a process that has not been reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attribution {
    /// A stage of the runtime: not reported.
    Stage,
    /// A user process: reported.
    User {
        origin: Origin,
        /// `None` for init and its descendants, and where the exec is not known.
        exec_id: Option<Arc<str>>,
        /// Whether it is the process of init or of an exec itself.
        root: bool,
    },
}

impl Attribution {
    fn descendant(exec_id: Option<Arc<str>>) -> Self {
        Self::User { origin: Origin::Descendant, exec_id, root: false }
    }
}

/// The facts about a process in the record of its exec.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExecFacts<'a> {
    pub(super) key: ProcessKey,
    pub(super) lineage: Lineage,
    pub(super) image: &'a Image,
    /// `None` where the source does not know.
    pub(super) in_host_mounts: Option<bool>,
}

impl Target {
    /// Decides about an exec. `node` is the process and `parent` its parent; each is `None` if it
    /// is not in the tree.
    pub(super) fn attribute(
        &self,
        facts: ExecFacts<'_>,
        node: Option<Index>,
        parent: Option<Index>,
    ) -> Attribution {
        // This rule is checked before the others: otherwise a process of the container could hide
        // by calling itself `runc init`.
        if let Some(ancestor) = self.tree.nearest_reported(parent) {
            let ancestor = self.tree.node(ancestor).process.as_ref();
            return Attribution::descendant(ancestor.and_then(|process| process.exec_id.clone()));
        }
        if let Some(exec_id) = self.tree.forgotten_parent_exec(facts.lineage) {
            return Attribution::descendant(exec_id);
        }
        let Some(init) = self.init else { return Attribution::descendant(None) };
        let pids = self.pids_above(facts.lineage, node, parent);
        let from_shim = pids.contains(&self.shim_pid);
        let exec_id = exec_id_of(&self.exec_table, facts.key.pid, &pids);
        // Init's parent may be the runtime or, once that has exited, the shim or another subreaper.
        let from_runtime = from_shim || exec_id.is_some() || facts.key.pid == init;
        // A process that has the host's mounts but does not descend from the runtime was injected,
        // for example by nsenter without `--mount`.
        let is_stage = facts.in_host_mounts.unwrap_or_else(|| self.looks_like_runtime(facts.image));
        if from_runtime && is_stage {
            return Attribution::Stage;
        }
        if facts.key.pid == init {
            return Attribution::User { origin: Origin::Init, exec_id: None, root: true };
        }
        if pids.contains(&init) && !self.init_started {
            // This is a hook that the runtime runs in the container before the container's own
            // program.
            return Attribution::Stage;
        }
        if exec_id.is_some() {
            return Attribution::User { origin: Origin::Exec, exec_id, root: true };
        }
        if from_shim {
            // The runtime has exited and its child became a child of the shim. If several execs are
            // being started, a guess could name the wrong exec; then `exec_started` gives the id
            // later.
            return Attribution::User {
                origin: Origin::Exec,
                exec_id: self.exec_table.only_unresolved(),
                root: true,
            };
        }
        Attribution::User { origin: Origin::Injected, exec_id: None, root: false }
    }

    /// The pids of the parent and the grandparent of the process, now and at its birth, and those
    /// of its nearest ancestors in the tree.
    fn pids_above(&self, lineage: Lineage, node: Option<Index>, parent: Option<Index>) -> Vec<i32> {
        let mut pids: Vec<i32> =
            [lineage.parent_pid(), lineage.grandparent_pid].into_iter().flatten().collect();
        let mut above = node.or(parent);
        for _ in 0..STAGES_MAX {
            let Some(index) = above else { break };
            let node = self.tree.node(index);
            pids.extend([node.parent_pid, node.grandparent_pid].into_iter().flatten());
            above = self.tree.parent(index);
        }
        pids
    }

    /// Whether the image is `runc init` under any of its names, or the executable of the
    /// container's runtime.
    fn looks_like_runtime(&self, image: &Image) -> bool {
        let executable = image.executable.as_deref().unwrap_or_default();
        // runc executes a sealed copy of itself, so that a container cannot overwrite its binary.
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

/// The exec that a process was made for; `None` for init.
fn exec_id_of(exec_table: &ExecTable, pid: i32, above: &[i32]) -> Option<Arc<str>> {
    exec_table
        .exec_with_pid(pid)
        .or_else(|| exec_table.exec_of_runtime(pid))
        .or_else(|| above.iter().find_map(|&above| exec_table.exec_of_runtime(above)))
}
