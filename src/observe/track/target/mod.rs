//! One target: a container, or a process tree without one.
//!
//! Each record and each report of the shim is one method. It changes the target's state and adds
//! the resulting effects to the output, which the tracker lends for the call:
//!
//! ```text
//!  start         fork and exec: a process begins, and runs an image
//!  exit          an exit from a record, from the reaper, or from an absence
//!  done          when an exited process is done
//!  execs         which process belongs to init or to an exec
//!  attribution   the user's process, or a stage of the runtime
//!  resync        what a scan of /proc shows and no record had
//! ```

mod attribution;
mod done;
mod execs;
mod exit;
mod resync;
mod start;

use std::{collections::HashMap, sync::Arc};

use super::{
    account::{Account, RecordOutcome},
    calls::{Calls, WAIT_MAX_NS, WaitingRecord},
    early_exits::EarlyExits,
    exec_table::ExecTable,
    identity::Identity,
    image::NewImage,
    images::Images,
    output::{Output, Stamp},
    scan::Scan,
    tree::{Index, Lookup, PendingExit, Tree},
};
use crate::{
    model::{Body, Gap, Grade, Image, Process, ProcessId, ProcessKey, UnknownReason},
    observe::record::{CallId, Provenance, ScanStep, TargetId, What},
};

/// How many nested cgroups of one target are remembered with their names.
const CGROUP_NAMES_MAX: usize = 1024;

/// About how many bytes a process with a small image needs: its node, its state, the image and
/// their places in tables. Measured by `tests/shim/root/watch/memory.rs`.
const PROCESS_BYTES: usize = 450;

/// The state of one target.
#[derive(Debug)]
pub(super) struct Target {
    id: TargetId,
    shim_pid: i32,
    /// The pid of the container's init; `None` where the target is no container.
    init: Option<i32>,
    /// Whether a record has shown that init runs the container's program.
    init_started: bool,
    /// Whether init may run the container's program without a record of its exec: the container was
    /// restored.
    pub(super) init_may_run: bool,
    /// When the runtime's `start` began, in nanoseconds; `None` before it has ended.
    init_start_ns: Option<u64>,
    /// Whether records were lost, so that the exec of init may be missing.
    is_lossy: bool,
    /// Whether the records of the source say where each process comes from.
    pub(super) knows_provenance: bool,
    pub(super) calls: Calls,
    /// Whether a scan has left out processes that may belong to a call of the runtime, or be init.
    scan_is_incomplete: bool,
    pub(super) runtime_path: Option<Box<[u8]>>,
    tree: Tree,
    images: Images,
    pub(super) exec_table: ExecTable,
    scan: Scan,
    /// The exited processes with a held output, oldest first.
    output_held: Vec<Index>,
    /// How many processes have a reported exit and are not done.
    pub(super) awaiting_done: usize,
    /// The latest time of any record, where the next gap begins.
    pub(super) last_ns: u64,
    cgroups: HashMap<u64, Arc<str>>,
    early_exits: EarlyExits,
    account: Account,
    /// The output of the tracker while a method of this target runs; otherwise an empty output. See
    /// [`Tracker`].
    ///
    /// [`Tracker`]: super::Tracker
    pub(super) output: Output,
    /// The image of a process without a known exec. Shared, because a fork storm makes many such
    /// processes.
    unseen_image: Arc<Image>,
}

impl Target {
    pub(super) fn new(
        id: TargetId,
        shim_pid: i32,
        init: Option<i32>,
        knows_provenance: bool,
    ) -> Self {
        let mut exec_table = ExecTable::default();
        if let Some(init) = init {
            exec_table.entry(&ProcessId::Init).own_pid = Some(init);
        }
        Self {
            id,
            shim_pid,
            init,
            init_started: false,
            init_may_run: false,
            init_start_ns: None,
            is_lossy: false,
            knows_provenance,
            calls: Calls::default(),
            scan_is_incomplete: false,
            runtime_path: None,
            tree: Tree::default(),
            images: Images::default(),
            exec_table,
            scan: Scan::default(),
            output_held: Vec::new(),
            awaiting_done: 0,
            last_ns: 0,
            cgroups: HashMap::new(),
            early_exits: EarlyExits::default(),
            account: Account::default(),
            output: Output::default(),
            unseen_image: Arc::new(Image {
                unknown: Some(UnknownReason::NotSeen),
                ..Image::default()
            }),
        }
    }

    pub(super) fn set_cgroup_name(&mut self, cgroup: u64, name: Arc<str>) {
        // A container may make cgroups without end: the shim's memory must not grow with them.
        if self.cgroups.len() < CGROUP_NAMES_MAX || self.cgroups.contains_key(&cgroup) {
            self.cgroups.insert(cgroup, name);
        }
    }

    /// Handles a record and counts its outcome. Records of a scan are not counted: they do not come
    /// from the kernel, and so are not in its account.
    pub(super) fn record(
        &mut self,
        stamp: Stamp,
        key: ProcessKey,
        provenance: Option<Provenance>,
        mut what: What,
    ) {
        self.last_ns = self.last_ns.max(stamp.at_ns);
        match &mut what {
            What::Exec { image, .. } => self.images.arrived(image),
            What::Alive { image, .. } => self.images.arrived_in_scan(image),
            What::Fork(_) | What::Exit { .. } => {}
        }
        let own = provenance.and_then(|provenance| provenance.call);
        let record = WaitingRecord { stamp, key, provenance, what };
        match own.filter(|call| self.calls.records_wait(*call)) {
            Some(call) => self.wait(call, record),
            None => self.apply_in_order(record),
        }
    }

    /// Applies a record, unless it has to wait behind an earlier one.
    fn apply_in_order(&mut self, record: WaitingRecord) {
        match self.calls.call_to_wait_in(&record) {
            Some(call) => self.wait(call, record),
            None => self.apply_record(record),
        }
    }

    /// Keeps a record until the result of a runtime call is known.
    pub(super) fn wait(&mut self, call: CallId, record: WaitingRecord) {
        let released = self.calls.add_waiting(call, record);
        self.handle_released(released);
    }

    /// Handles records that have waited for a runtime call, now that they no longer wait.
    fn handle_released(&mut self, records: Vec<WaitingRecord>) {
        for record in records {
            self.apply_in_order(record);
        }
    }

    fn apply_record(&mut self, record: WaitingRecord) {
        let WaitingRecord { stamp, key, provenance, what } = record;
        let at_ns = stamp.at_ns;
        let identity = Identity::new(key, provenance);
        let outcome = match what {
            What::Fork(lineage) => self.fork(stamp, identity, lineage, provenance),
            What::Exec { lineage, image, cgroup, in_host_mounts } => {
                let new = NewImage { lineage, image, cgroup, in_host_mounts, provenance };
                self.exec(stamp, identity, &new)
            }
            What::Exit { wait_status, oom_killed, outputs } => {
                let pending_exit = PendingExit { at_ns, oom_killed, outputs, recorded: true };
                self.exit(stamp, identity, wait_status, pending_exit)
            }
            What::Alive { lineage, image, cgroup } => {
                let new =
                    NewImage { lineage, image, cgroup, in_host_mounts: None, provenance: None };
                return self.scan_process(at_ns, key, new);
            }
        };
        self.count(outcome, at_ns);
    }

    /// A call of the runtime has ended.
    pub(super) fn call_ended(&mut self, call: CallId) {
        let released = self.calls.release_at_end(call);
        self.handle_released(released);
        let began_ns = self.calls.began_ns(call);
        let is_left = self.calls.call_ended(call);
        if self.calls.exec_of(call).is_none() && self.init_start_ns.is_none() {
            // The first runtime call after the create is `start`.
            self.init_start_ns = began_ns;
        }
        let init_is_missing = self.may_have_missed_init()
            && !self.init_started
            && self.init.is_some_and(|init| self.tree.find_living(init).is_some());
        if is_left || self.scan_is_incomplete || init_is_missing {
            self.scan_is_incomplete = false;
            self.output.request_scan(self.id);
        }
    }

    /// Notes that records of the target were lost.
    pub(super) fn lost(&mut self) {
        self.is_lossy = true;
        self.calls.records_lost();
    }

    /// Whether the container's start has ended, or the container was restored.
    fn is_started(&self) -> bool {
        self.init_may_run || self.init_start_ns.is_some()
    }

    /// Whether init may run the container's program, although no record shows its exec. A runtime
    /// may return from the start before init executes the program.
    fn may_have_missed_init(&self) -> bool {
        let is_late =
            |began_ns: u64| self.is_lossy || self.last_ns.saturating_sub(began_ns) >= WAIT_MAX_NS;
        self.init_may_run || self.init_start_ns.is_some_and(is_late)
    }

    /// Handles the records that have waited for too long, and the roots of execs that have executed
    /// nothing for too long.
    pub(super) fn report_overdue(&mut self, now_ns: u64) {
        let released = self.calls.take_overdue(now_ns);
        self.handle_released(released);
        if self.calls.has_overdue_root(now_ns) {
            self.output.request_scan(self.id);
        }
    }

    /// Handles the beginning or the end of a scan.
    pub(super) fn scan(&mut self, at_ns: u64, step: ScanStep) {
        self.last_ns = self.last_ns.max(at_ns);
        match step {
            ScanStep::Began => self.scan.begin(at_ns, self.tree.births()),
            ScanStep::Ended => self.scan_ended(at_ns),
        }
    }

    pub(super) fn count(&mut self, outcome: RecordOutcome, at_ns: u64) {
        let gap = self.account.count(outcome, at_ns);
        self.report_lost(gap);
    }

    pub(super) fn recount(&mut self) {
        self.account.recount();
    }

    /// A process that was reported and is not forgotten, alive or dead.
    pub(super) fn reported(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        match self.tree.find(key.into(), u64::MAX) {
            Lookup::Living(index) | Lookup::Dead(index) => self.tree.node(index).process.as_ref(),
            Lookup::Forgotten | Lookup::Unknown => None,
        }
    }

    /// About how many bytes the processes need.
    pub(super) fn process_bytes(&self) -> usize {
        self.tree.len() * PROCESS_BYTES + self.images.large_bytes()
    }

    #[cfg(test)]
    pub(super) fn large_bytes(&self) -> usize {
        self.images.large_bytes()
    }

    /// The living reported processes, parents before their children.
    pub(super) fn living(&self) -> impl Iterator<Item = Arc<Process>> {
        self.living_after(0).map(|(_, process)| process)
    }

    /// The living reported processes with a greater [serial](Node::serial).
    pub(super) fn living_after(&self, serial: u64) -> impl Iterator<Item = (u64, Arc<Process>)> {
        self.tree.all_after(serial).into_iter().filter_map(|index| {
            let node = self.tree.node(index);
            let process = node.process.as_ref().filter(|_| node.death.is_none())?;
            Some((node.serial, process.clone()))
        })
    }

    /// Reports what is outstanding and closes the account.
    pub(super) fn end(&mut self, seen_lost: Option<(u64, u64)>, at_ns: u64) {
        self.report_overdue(u64::MAX);
        if self.init.is_some() {
            // Children before their parents: then no dead descendant is queried as a holder.
            let mut all = self.tree.all();
            all.reverse();
            for &index in &all {
                if self.tree.has(index) && self.tree.node(index).death.is_none() {
                    self.report_vanished(index, at_ns);
                }
            }
            // These processes wait for an answer or for the end of pipes. Neither will follow after
            // the end of the target.
            for index in all {
                if self.tree.has(index) && self.tree.node(index).death.is_some() {
                    self.report_done(index, at_ns);
                }
            }
            // Every process is dead and reported: no answer could add anything.
            self.output.drop_queries(self.id);
        }
        let gap = self.account.take_gap(at_ns);
        self.report_lost(gap);
        let body = Body::ContainerClose(self.account.close(seen_lost));
        self.emit(Stamp::derived(at_ns, Grade::Exact), body);
    }

    fn emit(&mut self, stamp: Stamp, body: Body) {
        self.output.emit(self.id, stamp, body);
    }

    /// Reports the gap, if the account has returned one.
    fn report_lost(&mut self, gap: Option<Gap>) {
        if let Some(gap) = gap {
            self.output.report_gap(Some(self.id), gap);
        }
    }
}
