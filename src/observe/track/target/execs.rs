//! Which process belongs to init or to an exec.

use std::sync::Arc;

use super::Target;
use crate::{
    model::{Origin, Process, ProcessId},
    observe::track::tree::Index,
};

impl Target {
    /// The shim reports the pid of an exec's process. Descendants of the process that are reported
    /// already get the exec id too.
    pub(in crate::observe::track) fn exec_started(&mut self, exec_id: &Arc<str>, pid: i32) {
        let released = self.calls.root_known(exec_id, pid);
        if !released.is_empty() {
            // Where the source does not know the calls, the pid decides about what is released.
            self.exec_table.entry(&ProcessId::Exec(exec_id.clone())).own_pid = Some(pid);
            self.handle_released(released);
        }
        // The process was reported and is done already: an entry that is added now would never be
        // removed.
        if self.tree.find_living(pid).is_none() && self.tree.has_forgotten(pid) {
            return;
        }
        let entry = self.exec_table.entry(&ProcessId::Exec(exec_id.clone()));
        entry.own_pid = Some(pid);
        if entry.root.is_some() {
            return;
        }
        let Some(index) = self.tree.find_living(pid) else { return };
        let Some(reported) = self.tree.node(index).process.clone() else { return };
        // A descendant has the exec id of its ancestor, and init has none.
        if reported.exec_id.is_some()
            || !matches!(reported.origin, Origin::Injected | Origin::Unknown)
        {
            return;
        }
        let entry = self.exec_table.entry(&ProcessId::Exec(exec_id.clone()));
        entry.root = Some(index);
        entry.is_resolved = true;
        self.tree.node_mut(index).root = true;
        for index in self.tree.descendants(index) {
            if let Some(process) = &mut self.tree.node_mut(index).process {
                let process = Arc::make_mut(process);
                process.exec_id = Some(exec_id.clone());
                if process.origin == Origin::Unknown {
                    process.origin = Origin::Descendant;
                }
            }
        }
        let own =
            Process { origin: Origin::Exec, exec_id: Some(exec_id.clone()), ..(*reported).clone() };
        self.tree.node_mut(index).process = Some(Arc::new(own));
    }

    /// Notes that this is the process of init, or of an exec.
    pub(super) fn set_root(&mut self, index: Index, exec_id: Option<&Arc<str>>) {
        let process = match exec_id {
            None => {
                self.init_started = true;
                ProcessId::Init
            }
            Some(exec_id) => ProcessId::Exec(exec_id.clone()),
        };
        let entry = self.exec_table.entry(&process);
        if entry.root.is_none() {
            entry.root = Some(index);
            entry.is_resolved = true;
            self.tree.node_mut(index).root = true;
        }
    }
}
