//! Attribution: whether a process is a user process or a process of the runtime (`runc init`), and
//! how it came into its container.
//!
//! In a container's cgroup the runtime forks and executes stages of its own before it executes the
//! container's program. A descendant of a reported process is a user process, whatever it calls
//! itself. For the others it matters what the source knows.
//!
//! With a [`Provenance`] (eBPF) only facts decide that a container cannot choose: the call of the
//! runtime that a process descends from, the pids that the runtime has reported as init and as the
//! processes of execs, and whether a process of the container has forked it. The user's program
//! begins at the first exec of such a pid.
//!
//! Without it (the proc connector, polling) the pids that the runtime has reported decide as well.
//! Another child of the runtime or of the shim is a stage while the runtime makes a process, if it
//! is in the mount namespace of the shim; where the source does not know that, if its image looks
//! like the runtime's. Else its origin is unknown.

use std::sync::Arc;

use super::Target;
use crate::{
    model::{Image, Lineage, Origin, ProcessKey},
    observe::{
        record::{CallId, Provenance},
        track::{calls::CallRole, tree::Index},
    },
};

/// The largest number of unreported ancestors that are examined.
const UNREPORTED_ANCESTORS_MAX: usize = 8;

/// The decision about an execve(2) of a process that has not been reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attribution {
    /// A stage of the runtime: not reported.
    Stage,
    /// The process may be the root of this runtime call: the record waits until that is known.
    Waits(CallId),
    /// A user process: reported.
    User {
        origin: Origin,
        /// The exec (of containerd) to which the process belongs; `None` for init and its
        /// descendants, and if the exec is not known.
        exec_id: Option<Arc<str>>,
        /// Whether it is the process of init or of an exec itself.
        root: bool,
    },
}

impl Attribution {
    fn init() -> Self {
        Self::User { origin: Origin::Init, exec_id: None, root: true }
    }

    fn exec(exec_id: Arc<str>) -> Self {
        Self::User { origin: Origin::Exec, exec_id: Some(exec_id), root: true }
    }

    fn descendant(exec_id: Option<Arc<str>>) -> Self {
        Self::User { origin: Origin::Descendant, exec_id, root: false }
    }

    fn of_origin(origin: Origin) -> Self {
        Self::User { origin, exec_id: None, root: false }
    }
}

/// The facts about a process in the record of its execve(2), or in a scan that shows the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExecveFacts<'a> {
    pub(super) key: ProcessKey,
    pub(super) lineage: Lineage,
    pub(super) image: &'a Image,
    /// Whether the process is in the mount namespace of the shim; `None` if the source does not
    /// know.
    pub(super) in_host_mounts: Option<bool>,
    /// Whether the facts are from a scan; otherwise they are from the record of an execve(2).
    pub(super) is_scan: bool,
    /// Where the process comes from; `None` for a scan, and if the source does not know.
    pub(super) provenance: Option<Provenance>,
}

impl Target {
    /// Decides about an execve(2), or about a process that a scan shows. `node` is the process and
    /// `parent` its parent; each is `None` if it is not in the tree.
    pub(super) fn attribute(
        &self,
        facts: ExecveFacts<'_>,
        node: Option<Index>,
        parent: Option<Index>,
    ) -> Attribution {
        // This rule is checked before the others: otherwise a process of the container could hide
        // by calling itself `runc init`.
        if let Some(ancestor) = self.tree.nearest_reported(parent) {
            let ancestor = self.tree.node(ancestor).process.as_ref();
            let exec_id = ancestor.and_then(|process| process.exec_id.clone());
            let origin = ancestor.map_or(Origin::Descendant, |process| process.origin);
            let origin = self.origin_below(origin);
            return Attribution::User { origin, exec_id, root: false };
        }
        if let Some((origin, exec_id)) = self.tree.forgotten_parent(facts.lineage) {
            let origin = self.origin_below(origin);
            return Attribution::User { origin, exec_id, root: false };
        }
        let Some(init) = self.init else { return Attribution::descendant(None) };
        if let Some(provenance) = facts.provenance {
            return self.attribute_by_provenance(facts.key, provenance, node.or(parent));
        }
        if self.knows_provenance {
            return self.attribute_scanned(facts.key);
        }
        self.attribute_by_parents(init, facts, &self.pids_above(facts.lineage, node, parent))
    }

    /// The origin of a process that a reported one of this origin has forked. Without provenance it
    /// is not known whether a process of unknown origin is of this container at all, and neither
    /// are its descendants.
    pub(super) fn origin_below(&self, forker: Origin) -> Origin {
        match forker {
            Origin::Unknown if !self.knows_provenance => Origin::Unknown,
            _ => Origin::Descendant,
        }
    }

    /// Decides about a process without a reported ancestor by its ancestors in `/proc`, for a
    /// source without provenance. `pids` are the pids of these ancestors.
    fn attribute_by_parents(&self, init: i32, facts: ExecveFacts<'_>, pids: &[i32]) -> Attribution {
        // The runtime has reported this pid as that of the exec's process, so the image does not
        // matter.
        if let Some(exec_id) = self.exec_table.exec_with_pid(facts.key.pid) {
            return Attribution::exec(exec_id);
        }
        if self.is_waiting_init(facts.key) {
            // Init runs the runtime's code before the container's start, and for a moment after it.
            let is_stage = match facts.is_scan {
                true => !self.is_started() || self.init_may_run_runtime_code(facts.image),
                false => facts.in_host_mounts == Some(true),
            };
            return match is_stage {
                true => Attribution::Stage,
                false => Attribution::init(),
            };
        }
        if pids.contains(&init) && !self.init_started {
            // This is a hook that the runtime runs in the container before the container's own
            // program.
            return Attribution::Stage;
        }
        let from_shim = pids.contains(&self.shim_pid);
        let exec_id = pids.iter().find_map(|&above| self.exec_table.exec_of_runtime(above));
        // Stages exist only while the runtime makes a process. A process that has the host's mounts
        // but does not descend from the runtime was injected, for example by nsenter without
        // `--mount`.
        let may_be_stage = (from_shim || exec_id.is_some())
            && (!self.init_started || self.exec_table.has_unresolved());
        if may_be_stage
            && facts.in_host_mounts.unwrap_or_else(|| self.looks_like_runtime(facts.image))
        {
            return Attribution::Stage;
        }
        if !from_shim && exec_id.is_none() {
            // It may come from outside, or be a descendant that has lost its parent, has changed it
            // by `CLONE_PARENT`, or was moved here from another container.
            return Attribution::of_origin(Origin::Unknown);
        }
        // The process is a child of the runtime or of the shim: the process of an exec, another one
        // that the runtime has left to the shim, or one that a container has made with
        // CLONE_PARENT.
        match self.calls.newest_without_root() {
            // Not decided now: the end of the call requests another scan.
            Some(_) if facts.is_scan => Attribution::Stage,
            Some(call) => Attribution::Waits(call),
            None => Attribution::of_origin(Origin::Unknown),
        }
    }

    /// Decides about an execve(2) of a process without a reported ancestor, by facts that a
    /// container cannot choose.
    fn attribute_by_provenance(
        &self,
        key: ProcessKey,
        provenance: Provenance,
        above: Option<Index>,
    ) -> Attribution {
        if self.is_waiting_init(key) {
            return Attribution::init();
        }
        if let Some(call) = provenance.call {
            return self.attribute_in_call(call, key, provenance.is_inside);
        }
        if self.is_below_waiting_init(above) {
            return Attribution::of_origin(Origin::Hook);
        }
        // A born process has a reported forker, so the records of that forker were lost.
        let origin = if provenance.is_born { Origin::Descendant } else { Origin::Injected };
        Attribution::of_origin(origin)
    }

    /// Decides about a process that descends from a runtime call. `is_inside` says whether it is in
    /// the container's cgroup or in a pid namespace of the container.
    fn attribute_in_call(&self, call: CallId, key: ProcessKey, is_inside: bool) -> Attribution {
        match self.calls.role_of(call, key) {
            CallRole::Root(exec_id) => Attribution::exec(exec_id),
            // `runc exec` runs no hooks, so a process that the call has left behind descends from
            // the exec.
            CallRole::Left(Some(exec_id)) => Attribution::descendant(Some(exec_id)),
            CallRole::Overdue => Attribution::of_origin(Origin::Unknown),
            CallRole::Other | CallRole::Left(None) if is_inside => {
                Attribution::of_origin(Origin::Hook)
            }
            CallRole::Stage | CallRole::Other | CallRole::Left(None) => Attribution::Stage,
        }
    }

    /// Decides about a process that only a scan shows, for a source with provenance. The scan finds
    /// processes of the container's cgroup and pid namespace, and cannot show who forked them.
    fn attribute_scanned(&self, key: ProcessKey) -> Attribution {
        if self.is_waiting_init(key) {
            // Before its exec, init runs the runtime's code.
            return match self.may_have_missed_init() {
                true => Attribution::init(),
                false => Attribution::Stage,
            };
        }
        if let Some(call) = self.calls.call_of(key) {
            return match self.calls.will_exec(call, key) {
                true => Attribution::Stage,
                false => self.attribute_in_call(call, key, true),
            };
        }
        Attribution::of_origin(if self.is_started() { Origin::Unknown } else { Origin::Hook })
    }

    /// The origin and the exec id of a forked process that has no reported ancestor; `None` if the
    /// process is not reported before its first execve(2).
    pub(super) fn origin_of_fork(
        &self,
        index: Index,
        provenance: Provenance,
    ) -> Option<(Origin, Option<Arc<str>>)> {
        let key = self.tree.node(index).key;
        if let Some(call) = provenance.call {
            return match self.calls.role_of(call, key) {
                CallRole::Left(Some(exec_id)) => Some((Origin::Descendant, Some(exec_id))),
                _ => None,
            };
        }
        if self.is_waiting_init(key) || self.is_below_waiting_init(Some(index)) {
            return None;
        }
        Some((if provenance.is_born { Origin::Descendant } else { Origin::Injected }, None))
    }

    /// Whether a process is init and has not run the container's program yet.
    pub(super) fn is_waiting_init(&self, key: ProcessKey) -> bool {
        !self.init_started && self.init == Some(key.pid)
    }

    /// Whether init has not run the container's program yet and has forked this process or an
    /// ancestor of it. Before init runs that program, init itself is not in the tree.
    fn is_below_waiting_init(&self, process: Option<Index>) -> bool {
        let mut next = process.filter(|_| !self.init_started);
        while let Some(index) = next {
            if self.tree.node(index).parent_pid() == self.init {
                return true;
            }
            next = self.tree.parent(index);
        }
        false
    }

    /// The pids of the parent and the grandparent of the process, now and at its birth, and those
    /// of its nearest ancestors in the tree.
    fn pids_above(&self, lineage: Lineage, node: Option<Index>, parent: Option<Index>) -> Vec<i32> {
        let mut pids: Vec<i32> =
            [lineage.parent_pid(), lineage.grandparent_pid].into_iter().flatten().collect();
        let mut above = node.or(parent);
        for _ in 0..UNREPORTED_ANCESTORS_MAX {
            let Some(index) = above else { break };
            let node = self.tree.node(index);
            pids.extend([node.parent_pid(), node.grandparent_pid()].into_iter().flatten());
            above = self.tree.parent(index);
        }
        pids
    }

    /// Whether init with this image may still run the runtime's code, because the image looks like
    /// the runtime's. A container can imitate the image, so it counts only for a short time after
    /// the start.
    fn init_may_run_runtime_code(&self, image: &Image) -> bool {
        !self.may_have_missed_init() && self.looks_like_runtime(image)
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
