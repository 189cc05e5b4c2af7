//! The scans for the processes and sockets of a target.

use std::time::Instant;

use super::{Pipeline, TURN, Watched};
use crate::{
    model::{ProcessKey, chain},
    observe::{
        record::{Record, TargetId},
        source::scan::scan,
    },
};

impl Pipeline {
    /// Scans a target now, or marks it for [`run_due_scans`](Self::run_due_scans).
    pub(super) fn scan_or_defer(&mut self, id: TargetId) {
        let Some(watched) = self.targets.get_mut(&id) else { return };
        watched.scan_pending = true;
        if watched.may_scan() {
            self.scan_target(id);
        }
    }

    /// Runs the scans and socket dumps that were deferred and are due now.
    pub(in crate::observe) fn run_due_scans(&mut self) {
        let due = |watched: &Watched| watched.scan_pending && watched.may_scan();
        let due: Vec<TargetId> =
            self.targets.iter().filter(|(_, watched)| due(watched)).map(|(id, _)| *id).collect();
        for id in due {
            self.scan_target(id);
            self.run_effects();
        }
        self.run_due_dumps();
    }

    /// Scans a target for its living processes and sockets, and compares both with the known
    /// processes and sockets.
    fn scan_target(&mut self, id: TargetId) {
        let Some(watched) = self.targets.get_mut(&id) else { return };
        if let Some(priority) = &mut self.priority {
            // The container decides how many processes there are.
            priority.lower();
        }
        watched.last_scan = Some(Instant::now());
        watched.scan_pending = false;
        // With the keys of the known processes, the scan also finds processes outside of the
        // cgroup, and processes of a tree that have lost their parents.
        let watched = &self.targets[&id];
        let known: Vec<ProcessKey> =
            self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key).collect();
        let mut records = match scan(id, &watched.target, &known) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(
                    target = id.0,
                    error = chain(&error),
                    "failed to scan the processes of a target"
                );
                Vec::new()
            }
        };
        // A process of another container stays with it, also in the cgroup of this one.
        let is_of_another = |record: &Record| match record {
            Record::Process { key, .. } => self.source.is_kept_from(id, *key),
            _ => false,
        };
        records.retain(|record| !is_of_another(record));
        // The records are tracked before the scan: an exit that the source still has carries a
        // status, and an absence does not. But the scan began before them: a process that was
        // forked meanwhile is not missing from it.
        let drained = self.read_all();
        let mut records = records.into_iter();
        for record in records.next().into_iter().chain(drained).chain(records) {
            self.record(record);
        }
        // After the processes, because the sockets of a tree are those that its processes hold.
        self.dump_target(id, true);
    }

    /// All records that the source has at this moment; none if it has ended.
    pub(super) fn read_all(&mut self) -> Vec<Record> {
        // A ring holds fewer records. The bound ends the loop if records arrive as fast as they are
        // read.
        const LIMIT: usize = 1 << 16;
        let mut records = Vec::new();
        while records.len() < LIMIT
            && self.source.read(TURN, &mut |record| records.push(record)).unwrap_or(false)
        {}
        records
    }
}
