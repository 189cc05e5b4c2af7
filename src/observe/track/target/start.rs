//! Fork and exec: a process begins, and runs an image.

use std::sync::Arc;

use super::{
    Target,
    attribution::{Attribution, ExecveFacts},
};
use crate::{
    model::{Body, Image, Lineage, Origin, Parent, Process},
    observe::{
        record::{Provenance, What},
        track::{
            account::RecordOutcome,
            calls::WaitingRecord,
            identity::Identity,
            image::NewImage,
            output::Stamp,
            tree::{Index, Lookup},
        },
    },
};

impl Target {
    /// Handles a fork. The record's `key` is the child.
    pub(super) fn fork(
        &mut self,
        stamp: Stamp,
        identity: Identity,
        lineage: Lineage,
        provenance: Option<Provenance>,
    ) -> RecordOutcome {
        let key = identity.key;
        match self.tree.find(identity, stamp.at_ns) {
            Lookup::Living(index) => {
                let node = self.tree.node_mut(index);
                // Without start times, only a later fork with the same pid shows that the pid was
                // reused.
                let reused = key.compare_starts(node.key).is_none()
                    && stamp.at_ns > node.last_ns
                    && (node.is_forked() || node.started);
                if !reused {
                    node.set_born_ns(stamp.at_ns);
                    return RecordOutcome::Silent;
                }
            }
            Lookup::Dead(_) | Lookup::Forgotten => return RecordOutcome::Silent,
            Lookup::Unknown => {}
        }
        let Some(index) = self.add_process(identity, lineage, stamp.at_ns) else {
            return RecordOutcome::NoCapacity;
        };
        self.tree.node_mut(index).set_born_ns(stamp.at_ns);
        let Some(process) = self.forked_process(index, lineage, provenance) else {
            if let Some(call) = provenance.and_then(|provenance| provenance.call) {
                self.calls.note_unreported(call, key);
            }
            if let Some(parent) = lineage.parent_pid() {
                self.exec_table.note_stage(parent, key.pid);
            }
            self.forget_if_exited(index);
            return RecordOutcome::Silent;
        };
        let process = Arc::new(process);
        let stack = self.tree.parent(index).and_then(|parent| self.tree.node(parent).stack);
        let node = self.tree.node_mut(index);
        node.process = Some(process.clone());
        node.stack = stack;
        self.emit(stamp, Body::Fork(process));
        self.report_early_exit(index);
        RecordOutcome::Reported
    }

    /// The process for its fork event; `None` if it is not reported before its first exec.
    fn forked_process(
        &self,
        index: Index,
        lineage: Lineage,
        provenance: Option<Provenance>,
    ) -> Option<Process> {
        let node = self.tree.node(index);
        let parent =
            self.tree.parent(index).and_then(|parent| self.tree.node(parent).process.as_ref());
        let forgotten_parent = match self.init {
            Some(_) => self.tree.forgotten_parent(lineage),
            None => Some((Origin::Descendant, None)),
        };
        // A process runs the image of its parent until its first exec.
        let (image, origin, exec_id) = match (parent, forgotten_parent) {
            (Some(parent), _) => {
                (parent.image.clone(), self.origin_below(parent.origin), parent.exec_id.clone())
            }
            (None, Some((origin, exec_id))) => {
                (self.unseen_image.clone(), self.origin_below(origin), exec_id)
            }
            (None, None) => {
                let (origin, exec_id) = self.origin_of_fork(index, provenance?)?;
                (self.unseen_image.clone(), origin, exec_id)
            }
        };
        Some(Process {
            key: node.key,
            vpid: lineage.vpid,
            parent_pid: lineage.parent_pid(),
            parent: parent.map(|parent| Parent { key: parent.key, image: parent.image.clone() }),
            image,
            origin,
            exec_id,
            cgroup: parent.and_then(|parent| parent.cgroup.clone()),
        })
    }

    /// Handles an exec of a known process, or of a process with a lost fork.
    pub(super) fn exec(
        &mut self,
        stamp: Stamp,
        identity: Identity,
        new: &NewImage,
    ) -> RecordOutcome {
        match self.tree.find(identity, stamp.at_ns) {
            Lookup::Living(index) => {
                let node = self.tree.node(index);
                // This is a copy of a record, or a record that is older than the known image.
                if node.image_ns().is_some_and(|image_ns| stamp.at_ns <= image_ns) {
                    return RecordOutcome::Silent;
                }
                // The exec happened during the scan, which has read what it runs.
                if node
                    .image_ns()
                    .is_some_and(|image_ns| self.scan.may_have_read(image_ns, stamp.at_ns))
                    && !self.is_other_than_reported(index, &new.image)
                {
                    return RecordOutcome::Silent;
                }
                self.note_record(index, identity, stamp.at_ns);
                self.run_image(stamp, index, new)
            }
            Lookup::Dead(_) | Lookup::Forgotten => RecordOutcome::Silent,
            Lookup::Unknown => {
                let Some(index) = self.add_process(identity, new.lineage, stamp.at_ns) else {
                    return RecordOutcome::NoCapacity;
                };
                self.run_image(stamp, index, new)
            }
        }
    }

    /// A living process runs a new image. Reports it, unless the process is a runtime stage.
    pub(super) fn run_image(
        &mut self,
        stamp: Stamp,
        index: Index,
        new: &NewImage,
    ) -> RecordOutcome {
        let node = self.tree.node(index);
        let (key, forked, new_here) = (node.key, node.is_forked(), node.process.is_none());
        let (origin, exec_id, birth_known) = if let Some(reported) = &node.process {
            (reported.origin, reported.exec_id.clone(), forked && !node.started)
        } else {
            let parent = self.tree.parent(index).or_else(|| self.tree.find_parent(new.lineage));
            let facts = ExecveFacts {
                key,
                lineage: new.lineage,
                image: &new.image,
                in_host_mounts: new.in_host_mounts,
                is_scan: stamp.derived,
                provenance: new.provenance,
            };
            match self.attribute(facts, Some(index), parent) {
                Attribution::Stage => {
                    // A scan may show the image of an exec with a record that waits and is older.
                    if !stamp.derived {
                        self.tree.node_mut(index).set_image_ns(stamp.at_ns);
                    } else if !self.knows_provenance && !self.is_waiting_init(key) {
                        // It may be a user process that will execute nothing more. Init will.
                        self.scan_is_incomplete = true;
                    }
                    if let Some(call) = new.provenance.and_then(|provenance| provenance.call) {
                        self.calls.note_unreported(call, key);
                    }
                    self.forget_if_exited(index);
                    return RecordOutcome::Silent;
                }
                Attribution::Waits(call) => {
                    let NewImage { lineage, cgroup, in_host_mounts, provenance, .. } = *new;
                    let image = new.image.clone();
                    let what = What::Exec { lineage, image, cgroup, in_host_mounts };
                    self.wait(call, WaitingRecord { stamp, key, provenance, what });
                    return RecordOutcome::Waits;
                }
                Attribution::User { origin, exec_id, root } => {
                    self.calls.forget(key);
                    // Where its fork was lost, the lineage of the exec names the parent.
                    if let Some(parent) = parent {
                        self.tree.adopt(index, parent);
                    }
                    if root {
                        self.set_root(index, exec_id.as_ref());
                    }
                    (origin, exec_id, forked || root)
                }
            }
        };
        let image = self.images.shared(&new.image);
        let kept = self.images.reduced(&image);
        let process = self.process_of(index, new, image, origin, exec_id);
        let node = self.tree.node_mut(index);
        node.process = Some(match kept {
            None => process.clone(),
            Some(image) => Arc::new(Process { image, ..(*process).clone() }),
        });
        node.stack = new.image.stack;
        node.started = true;
        node.set_image_ns(stamp.at_ns);
        // The first image is a start only if the birth is known: if the fork was lost, the process
        // may have run other images before.
        let body = if birth_known || (stamp.derived && new_here) {
            Body::Start(process)
        } else {
            Body::Exec(process)
        };
        self.emit(stamp, body);
        self.report_early_exit(index);
        self.report_early_reap(index);
        RecordOutcome::Reported
    }

    /// Adds a process that no record has named before; `None` where there is no capacity.
    pub(super) fn add_process(
        &mut self,
        identity: Identity,
        lineage: Lineage,
        at_ns: u64,
    ) -> Option<Index> {
        self.end_previous(identity.key.pid, at_ns);
        let parent = self.tree.find_parent(lineage);
        let index = self.tree.add(identity, lineage, parent, at_ns)?;
        let gap = self.account.capacity_regained(at_ns);
        self.report_lost(gap);
        Some(index)
    }

    /// A new process has the pid of a process that counts as alive: the exit of the older process
    /// was lost. Those that have exited are reaped, because the kernel gives a pid away only then.
    fn end_previous(&mut self, pid: i32, at_ns: u64) {
        if let Some(old) = self.tree.find_living(pid) {
            self.report_vanished(old, at_ns);
        }
        for dead in self.tree.all_dead(pid) {
            self.mark_reaped(dead, at_ns);
        }
    }

    /// Notes the time of a record of a living process, and its start time where it was missing.
    pub(super) fn note_record(&mut self, index: Index, identity: Identity, at_ns: u64) {
        let node = self.tree.node_mut(index);
        node.last_ns = node.last_ns.max(at_ns);
        node.key.start = node.key.start.or(identity.key.start);
        node.start_ns = node.start_ns.or(identity.start_ns);
    }

    /// The process with its new image, for the event.
    fn process_of(
        &self,
        index: Index,
        new: &NewImage,
        image: Arc<Image>,
        origin: Origin,
        exec_id: Option<Arc<str>>,
    ) -> Arc<Process> {
        let node = self.tree.node(index);
        let before = node.process.as_ref();
        let parent =
            self.tree.parent(index).and_then(|parent| self.tree.node(parent).process.as_ref());
        let born_of = before.and_then(|before| before.parent.clone());
        let parent = match (parent, born_of) {
            // The parent at birth is forgotten, and the tree has made the process a child of its
            // nearest remembered ancestor. Events keep naming the parent at birth.
            (Some(above), Some(born_of)) if above.key != born_of.key => Some(born_of),
            (Some(parent), _) => Some(Parent { key: parent.key, image: parent.image.clone() }),
            (None, born_of) => born_of,
        };
        // A source may not know the parent at an exec.
        let parent_pid = new.lineage.parent_pid().or(node.parent_pid());
        Arc::new(Process {
            key: node.key,
            vpid: new.lineage.vpid.or(node.vpid()),
            parent_pid,
            parent,
            image,
            origin,
            exec_id,
            cgroup: new.cgroup.and_then(|cgroup| self.cgroups.get(&cgroup).cloned()),
        })
    }
}
