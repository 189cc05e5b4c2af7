//! When an exited process is done: it is reaped, and none of its descendants holds its output.
//!
//! ```text
//!  exit ─► reaped?   ─► reaped ─┬─ the shim has pipes of its own: at their end ─────┐
//!                               ├─ no living descendant, or outputs unknown ────────┤
//!                               └─ holders?   ─┬─ no holder ────────────────────────┴─► done
//!                                     ▲        └─ some: output held
//!                                     └───────────────┘ when the last of them exits
//! ```

use std::{collections::HashSet, mem, sync::Arc};

use super::Target;
use crate::{
    model::{
        Body, FileId, Gap, Grade, HOLDERS_NAMED, Parent, Process, ProcessId, ProcessKey, Stage,
    },
    observe::track::{
        output::Stamp,
        tree::{Holding, Index},
    },
};

/// How many exited processes of one target may have their output held. Beyond this number the
/// oldest of them is forgotten: that it is done is not reported, and a gap counts it.
const OUTPUT_HELD_MAX: usize = 256;

impl Target {
    /// Handles the answer that an exited process is reaped.
    pub(in crate::observe::track) fn confirm_reaped(&mut self, key: ProcessKey, at_ns: u64) {
        if let Some(index) = self.tree.find_dead(key) {
            self.mark_reaped(index, at_ns);
        }
    }

    /// Notes that an exited process is reaped.
    pub(super) fn mark_reaped(&mut self, index: Index, at_ns: u64) {
        if !self.tree.has(index) {
            return;
        }
        if let Some(death) = &mut self.tree.node_mut(index).death
            && !death.reaped
        {
            death.reaped = true;
            self.advance(index, at_ns);
        }
    }

    /// The shim's own pipes of init or of an exec have ended.
    pub(in crate::observe::track) fn output_ended(&mut self, process: &ProcessId, at_ns: u64) {
        let Some(entry) = self.exec_table.find_mut(process) else { return };
        entry.output_ended = true;
        if let Some(root) = entry.root {
            self.advance(root, at_ns);
        }
    }

    /// Takes the next step for an exited and reaped process: queries the holders of its output,
    /// waits, or reports that the process is done.
    fn advance(&mut self, index: Index, at_ns: u64) {
        let node = self.tree.node(index);
        let Some(death) = &node.death else { return };
        if !death.reaped {
            return;
        }
        match self.own_pipes_ended(index) {
            Some(true) => return self.report_done(index, at_ns),
            // The process waits for the end of these pipes: `output_ended` calls this function
            // again.
            Some(false) => return,
            None => {}
        }
        if death.holding == Holding::NotQueried && !self.query_holders(index) {
            self.report_done(index, at_ns);
        }
    }

    /// Whether the shim's own pipes of this process have ended; `None` if the shim has none for it.
    fn own_pipes_ended(&self, index: Index) -> Option<bool> {
        if !self.tree.node(index).root {
            return None;
        }
        let entry = self.exec_table.entry_of_root(index)?;
        entry.expects_output_end.then_some(entry.output_ended)
    }

    /// Queries which descendants hold the output of an exited process. Returns `false` if no
    /// descendant can hold it.
    fn query_holders(&mut self, index: Index) -> bool {
        let Some(death) = &self.tree.node(index).death else { return false };
        let outputs = death.outputs;
        if outputs == [None::<FileId>; 2] {
            return false;
        }
        let among: Vec<ProcessKey> = self
            .tree
            .descendants(index)
            .into_iter()
            .map(|index| self.tree.node(index).key)
            .collect();
        if among.is_empty() {
            return false;
        }
        let births = self.tree.births();
        let node = self.tree.node_mut(index);
        if let Some(death) = &mut node.death {
            death.holding = Holding::Queried(births);
        }
        self.output.query_holders(self.id, node.key, outputs, among);
        true
    }

    /// Handles the answer to a query for the holders of an exited process's output.
    pub(in crate::observe::track) fn set_holders(
        &mut self,
        key: ProcessKey,
        holders: &[ProcessKey],
        at_ns: u64,
    ) {
        let Some(index) = self.tree.find_dead(key) else { return };
        let Some(death) = &self.tree.node(index).death else { return };
        let Holding::Queried(births) = death.holding else { return };
        let below = self.tree.descendants(index);
        let holders: HashSet<ProcessKey> = holders.iter().copied().collect();
        let by: Vec<Index> = below
            .iter()
            .copied()
            .filter(|&below| holders.contains(&self.tree.node(below).key))
            .collect();
        if !by.is_empty() {
            for &holder in &by {
                self.tree.node_mut(holder).holds += 1;
            }
            self.set_holding(index, Holding::HeldBy(by));
            self.output_held.push(index);
            if self.output_held.len() > OUTPUT_HELD_MAX {
                self.forget_undone(self.output_held[0], at_ns);
            }
            return;
        }
        if self.own_pipes_ended(index).is_some() {
            // No process of this target holds the pipes now, but a process outside of it may. The
            // process is done when the pipes end.
            return self.set_holding(index, Holding::HeldBy(by));
        }
        self.set_holding(index, Holding::NotQueried);
        // A process that was forked since the query may have inherited the descriptor from a parent
        // that has exited since.
        let born_since = below.iter().any(|&below| self.tree.node(below).serial > births);
        if !(born_since && self.query_holders(index)) {
            self.report_done(index, at_ns);
        }
    }

    /// Continues the exited processes of which `holder`, which has exited now, held the output.
    pub(super) fn holder_exited(&mut self, holder: Index, at_ns: u64) {
        // Most processes hold no output of another process.
        if mem::take(&mut self.tree.node_mut(holder).holds) == 0 {
            return;
        }
        // A copy, because `advance` changes the list.
        for index in self.output_held.clone() {
            if !self.tree.has(index) {
                continue;
            }
            let Some(death) = &mut self.tree.node_mut(index).death else { continue };
            let Holding::HeldBy(by) = &mut death.holding else { continue };
            by.retain(|&other| other != holder);
            if by.is_empty() {
                death.holding = Holding::NotQueried;
                self.output_held.retain(|&held| held != index);
                self.advance(index, at_ns);
            }
        }
    }

    /// Reports that an exited process is done, and forgets it.
    pub(super) fn report_done(&mut self, index: Index, at_ns: u64) {
        let Some((process, died_ns)) = self.forget_dead(index) else { return };
        let stamp = Stamp::derived(at_ns, Grade::Late);
        self.emit(stamp, Body::Done { process, after_exit_ns: at_ns.saturating_sub(died_ns) });
    }

    /// Forgets an exited process without a report that it is done.
    fn forget_undone(&mut self, index: Index, at_ns: u64) {
        if self.forget_dead(index).is_some() {
            let gap = Gap { lost: Some(1), stage: Stage::Observer, from_ns: at_ns, to_ns: at_ns };
            self.output.report_gap(Some(self.id), gap);
        }
    }

    /// Forgets an exited process, and removes it from the processes with a held output. Returns the
    /// process with the time of its exit.
    fn forget_dead(&mut self, index: Index) -> Option<(Arc<Process>, u64)> {
        let node = self.tree.node_mut(index);
        let process = node.process.clone()?;
        let death = node.death.as_mut()?;
        let died_ns = death.at_ns;
        if let Holding::HeldBy(by) = mem::replace(&mut death.holding, Holding::NotQueried) {
            for holder in by {
                let holder = self.tree.node_mut(holder);
                holder.holds = holder.holds.saturating_sub(1);
            }
            self.output_held.retain(|&held| held != index);
        }
        if self.tree.node(index).root {
            self.exec_table.remove_done(index);
        }
        self.awaiting_done = self.awaiting_done.saturating_sub(1);
        self.tree.forget(index, died_ns);
        Some((process, died_ns))
    }

    /// Reports the holders of each output that has been held for `held_after_ns`, once.
    pub(in crate::observe::track) fn report_held(&mut self, at_ns: u64, held_after_ns: u64) {
        if self.awaiting_done == 0 {
            return;
        }
        // This visits all processes, so the caller limits how often it is called.
        for index in self.tree.all() {
            let Some(death) = &self.tree.node(index).death else { continue };
            if death.held_reported || at_ns.saturating_sub(death.at_ns) < held_after_ns {
                continue;
            }
            let (holders, holders_count) = match &death.holding {
                // Its parent has not waited for it, so it is not known yet who holds its output.
                _ if !death.reaped => (Vec::new(), 0),
                Holding::HeldBy(by) => {
                    let named = by.iter().take(HOLDERS_NAMED).filter_map(|&by| self.as_holder(by));
                    (named.collect(), by.len())
                }
                Holding::Queried(_) => continue,
                // The shim has pipes of its own for this process, so the holders were not queried
                // before. The event names the processes that keep the other end open.
                Holding::NotQueried => {
                    if self.query_holders(index) {
                        continue;
                    }
                    (Vec::new(), 0)
                }
            };
            let holders_count = u32::try_from(holders_count).unwrap_or(u32::MAX);
            let node = self.tree.node_mut(index);
            if let (Some(death), Some(process)) = (&mut node.death, node.process.clone()) {
                death.held_reported = true;
                let stamp = Stamp::derived(at_ns, Grade::Late);
                self.emit(stamp, Body::Held { process, holders, holders_count });
            }
        }
    }

    fn as_holder(&self, index: Index) -> Option<Parent> {
        let process = self.tree.node(index).process.as_ref()?;
        Some(Parent { key: process.key, image: process.image.clone() })
    }

    fn set_holding(&mut self, index: Index, holding: Holding) {
        if let Some(death) = &mut self.tree.node_mut(index).death {
            death.holding = holding;
        }
    }
}
