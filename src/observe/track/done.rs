//! When a dead process is done: reaped, and nobody who descends from it holds its output.
//!
//! ```text
//!  exit ─► AskReaped ─► reaped ─┬─ pipes of the shim's own: their end ──────────────┐
//!                               ├─ no living descendant, or outputs unknown ────────┤
//!                               └─ AskHolders ─► by some: until the last one exits  │
//!                                       ▲              │ then asked again           │
//!                                       └──────────────┘  ─► by nobody ─────────────┴─► done
//! ```

use std::{mem, sync::Arc};

use super::{
    Effect,
    target::{How, Target},
    tree::{Holding, Index},
};
use crate::model::{Body, FileId, Gap, Grade, Parent, Process, ProcessKey, Stage};

/// How many dead processes of one target wait for who holds their output. Beyond it the oldest is
/// forgotten: its done is not told, and a gap says so.
const HELD_MAX: usize = 256;

impl Target {
    pub(super) fn reaped(&mut self, key: ProcessKey, at_ns: u64, effects: &mut Vec<Effect>) {
        if let Some(index) = self.tree.dead(key) {
            self.is_reaped(index, at_ns, effects);
        }
    }

    pub(super) fn is_reaped(&mut self, index: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        if !self.tree.has(index) {
            return;
        }
        if let Some(death) = &mut self.tree.node_mut(index).death
            && !death.reaped
        {
            death.reaped = true;
            self.settle(index, at_ns, effects);
        }
    }

    pub(super) fn output_ended(&mut self, exec_id: &str, at_ns: u64, effects: &mut Vec<Effect>) {
        let Some(call) = self.calls.find_mut(exec_id) else { return };
        call.output_ended = true;
        if let Some(root) = call.root {
            self.settle(root, at_ns, effects);
        }
    }

    /// Takes a dead process one step on: asks, waits or tells that it is done.
    fn settle(&mut self, index: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        let node = self.tree.node(index);
        let Some(death) = &node.death else { return };
        if !death.reaped {
            return;
        }
        match self.own_pipes_ended(index) {
            Some(true) => return self.finish(index, at_ns, effects),
            Some(false) => return,
            None => {}
        }
        if death.holding == Holding::Unasked && !self.ask(index, effects) {
            self.finish(index, at_ns, effects);
        }
    }

    /// Whether the shim's own pipes for it came to their end; `None` where it has none.
    fn own_pipes_ended(&self, index: Index) -> Option<bool> {
        if !self.tree.node(index).root {
            return None;
        }
        let call = self.calls.of_root(index)?;
        call.expects_output_end.then_some(call.output_ended)
    }

    /// Asks who holds a dead process's output; `false` where nobody can.
    fn ask(&mut self, index: Index, effects: &mut Vec<Effect>) -> bool {
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
            death.holding = Holding::Asked(births);
        }
        effects.push(Effect::AskHolders { target: self.id, key: node.key, outputs, among });
        true
    }

    pub(super) fn holders(
        &mut self,
        key: ProcessKey,
        holders: &[ProcessKey],
        at_ns: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.tree.dead(key) else { return };
        let Some(death) = &self.tree.node(index).death else { return };
        let Holding::Asked(births) = death.holding else { return };
        let below = self.tree.descendants(index);
        let by: Vec<Index> = below
            .iter()
            .copied()
            .filter(|&below| holders.contains(&self.tree.node(below).key))
            .collect();
        if !by.is_empty() {
            for &holder in &by {
                self.tree.node_mut(holder).holds += 1;
            }
            self.set_holding(index, Holding::By(by));
            self.held.push(index);
            if self.held.len() > HELD_MAX {
                self.give_up(self.held[0], at_ns, effects);
            }
            return;
        }
        if self.own_pipes_ended(index).is_some() {
            // Nobody here: somebody outside, or nobody any more. Their end says it.
            return self.set_holding(index, Holding::By(by));
        }
        self.set_holding(index, Holding::Unasked);
        // One that was born since the question may have what its dead parent had.
        let born_since = below.iter().any(|&below| self.tree.node(below).serial > births);
        if !(born_since && self.ask(index, effects)) {
            self.finish(index, at_ns, effects);
        }
    }

    /// A living process that holds somebody's output has died.
    pub(super) fn holder_gone(&mut self, holder: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        self.tree.node_mut(holder).holds = 0;
        for index in self.held.clone() {
            if !self.tree.has(index) {
                continue;
            }
            let Some(death) = &mut self.tree.node_mut(index).death else { continue };
            let Holding::By(by) = &mut death.holding else { continue };
            by.retain(|&by| by != holder);
            if by.is_empty() {
                death.holding = Holding::Unasked;
                self.held.retain(|&held| held != index);
                self.settle(index, at_ns, effects);
            }
        }
    }

    /// Tells that a dead process is done, and forgets it.
    pub(super) fn finish(&mut self, index: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        let Some((process, died_ns)) = self.drop_dead(index) else { return };
        let how = How { at_ns, grade: Grade::Late, derived: true };
        self.tell(
            how,
            Body::Done { process, after_exit_ns: at_ns.saturating_sub(died_ns) },
            effects,
        );
    }

    fn give_up(&mut self, index: Index, at_ns: u64, effects: &mut Vec<Effect>) {
        if self.drop_dead(index).is_some() {
            let gap = Gap { lost: Some(1), stage: Stage::Observer, from_ns: at_ns, to_ns: at_ns };
            effects.push(super::gap_told(Some(self.id), gap));
        }
    }

    /// Forgets a dead process and whatever waits for it.
    fn drop_dead(&mut self, index: Index) -> Option<(Arc<Process>, u64)> {
        let node = self.tree.node_mut(index);
        let process = node.process.clone()?;
        let death = node.death.as_mut()?;
        let died_ns = death.at_ns;
        if let Holding::By(by) = mem::replace(&mut death.holding, Holding::Unasked) {
            for holder in by {
                let holder = self.tree.node_mut(holder);
                holder.holds = holder.holds.saturating_sub(1);
            }
            self.held.retain(|&held| held != index);
        }
        if self.tree.node(index).root {
            self.calls.over(index);
        }
        self.undone = self.undone.saturating_sub(1);
        self.tree.forget(index, died_ns);
        Some((process, died_ns))
    }

    pub(super) fn overdue(&mut self, at_ns: u64, held_after_ns: u64, effects: &mut Vec<Effect>) {
        if self.undone == 0 {
            return;
        }
        for index in self.tree.all() {
            let Some(death) = &self.tree.node(index).death else { continue };
            if !death.reaped || death.held_told || at_ns.saturating_sub(death.at_ns) < held_after_ns
            {
                continue;
            }
            let holders = match &death.holding {
                Holding::By(by) => by.iter().filter_map(|&by| self.as_holder(by)).collect(),
                Holding::Asked(_) => continue,
                // Pipes of the shim's own: who has their other end is of interest now.
                Holding::Unasked => {
                    if self.ask(index, effects) {
                        continue;
                    }
                    Vec::new()
                }
            };
            let node = self.tree.node_mut(index);
            if let (Some(death), Some(process)) = (&mut node.death, node.process.clone()) {
                death.held_told = true;
                let how = How { at_ns, grade: Grade::Late, derived: true };
                self.tell(how, Body::Held { process, holders }, effects);
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
