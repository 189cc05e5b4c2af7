//! Resync: compares a complete scan of `/proc` with the known processes.
//!
//! Records that the source delivers during a scan have their effect at once; what the scan shows of
//! the same processes is older and is not reported again.

use super::Target;
use crate::{
    model::{Grade, Image, ProcessKey},
    observe::track::{
        image::{NewImage, is_other_exec},
        output::Stamp,
        scan::Scanned,
        tree::{Index, Lookup, PendingExit},
    },
};

impl Target {
    /// Handles a process that a scan lists. Outside of a scan the process is reported at once.
    pub(super) fn scan_process(&mut self, at_ns: u64, key: ProcessKey, new: NewImage) {
        let stamp = Stamp::derived(at_ns, Grade::Snapshot);
        if let Some(Scanned { stamp, key, new }) = self.scan.add(Scanned { stamp, key, new }) {
            self.apply_scanned(stamp, key, &new);
        }
    }

    /// A scan is complete: reports what differs from what is known.
    pub(super) fn scan_ended(&mut self, ended_ns: u64) {
        let Some(scan) = self.scan.end(ended_ns) else { return };
        let at_ns = scan.began_ns;
        for Scanned { stamp, key, new } in scan.processes {
            if let Some(index) = self.apply_scanned(stamp, key, &new)
                && self.tree.has(index)
            {
                self.tree.node_mut(index).scan = scan.number;
            }
        }
        if scan.is_cut || self.has_all_records() {
            return;
        }
        // Children before their parents: otherwise a parent would still have, as a living
        // descendant, a child that the scan shows to be dead too.
        let mut all = self.tree.all();
        all.reverse();
        for index in all {
            if !self.tree.has(index) {
                continue;
            }
            let node = self.tree.node(index);
            if node.death.is_some() || node.scan == scan.number || node.serial > scan.births {
                continue;
            }
            if node.process.is_some() && self.reaper_has_status(index) {
                // The reaper will report the exit with the status, which a scan cannot know.
                let pending_exit = PendingExit::unrecorded(at_ns);
                self.tree.node_mut(index).pending_exit.get_or_insert(Box::new(pending_exit));
            } else {
                self.report_vanished(index, at_ns);
            }
        }
    }

    /// Whether no record of a fork, exec or exit can be missing. If so, a scan finds only processes
    /// that came into the container without a fork or an exec in it, and those that a runtime call
    /// has left.
    fn has_all_records(&self) -> bool {
        self.knows_provenance && !self.is_lossy
    }

    /// Whether an image is that of another execve(2) than the image of the process that was
    /// reported last.
    pub(super) fn is_other_than_reported(&self, index: Index, image: &Image) -> bool {
        let node = self.tree.node(index);
        let reported = node.process.as_ref();
        reported.is_none_or(|reported| is_other_exec(&reported.image, node.stack, image))
    }

    /// Reports a process or an image that a scan shows and no record had.
    fn apply_scanned(&mut self, stamp: Stamp, key: ProcessKey, new: &NewImage) -> Option<Index> {
        match self.tree.find(key.into(), stamp.at_ns) {
            Lookup::Living(index) => {
                let node = self.tree.node(index);
                if self.has_all_records() && node.process.is_some() {
                    return Some(index);
                }
                // A record during the scan is newer than what the scan read.
                let news = node.image_ns().is_none_or(|image_ns| image_ns < stamp.at_ns)
                    && self.is_other_than_reported(index, &new.image);
                self.note_record(index, key.into(), stamp.at_ns);
                if news {
                    self.run_image(stamp, index, new);
                }
                Some(index)
            }
            Lookup::Dead(_) | Lookup::Forgotten => None,
            Lookup::Unknown => {
                if self.knows_provenance && self.calls.any_awaits_root() {
                    // Its records may be among those that wait, or it may be a process of the
                    // runtime with a lost fork. The end of the call shows it.
                    self.scan_is_incomplete = true;
                    return None;
                }
                // The exit of the process was read before the scan was complete: if the process
                // were added now, it would count as alive until the next scan.
                if self.early_exits.covers(key.into(), stamp.at_ns) {
                    return None;
                }
                let Some(index) = self.add_process(key.into(), new.lineage, stamp.at_ns) else {
                    let gap = self.account.count_lost(stamp.at_ns);
                    self.report_lost(gap);
                    return None;
                };
                self.run_image(stamp, index, new);
                self.tree.has(index).then_some(index)
            }
        }
    }
}
