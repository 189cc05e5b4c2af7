//! Connects one source, one tracker and one port table, and answers the tracker's questions.
//!
//! ```text
//!  source ── records ──► tracker ── effects ──► run here: scans, pidfds, descriptors of processes
//!                   └──► ports                └► emissions, which the caller takes
//! ```
//!
//! The shim's observer and the library's [`Detector`](super::Detector) share it. It belongs to one
//! thread, which calls [`wait`](Pipeline::wait), then [`read`](Pipeline::read) and
//! [`track`](Pipeline::track) until they find nothing more.

mod dumps;
mod holders;
mod idle;
mod inbox;
mod ports;
mod scans;
mod waiting_sockets;

pub(in crate::observe) use inbox::Inbox;

use std::{
    collections::{BTreeMap, HashMap},
    iter,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::holders::HolderSearches;

use crate::{
    clock::monotonic_ns,
    model::{Backend, Body, Gap, Grade, Image, Process, Stage},
    observe::{
        record::{Position, Record, TargetId, What},
        redact::Redactor,
        source::{KernelCounts, Source, SourceError, Target},
        track::{Effect, Emission, Tracker, ports::Ports},
    },
    platform::{RaisedPriority, cgroup, process},
};

/// The number of records of one batch. It is small, so that the memory of their events is freed
/// before the allocator's small per-thread caches are full.
const TURN: usize = 64;

/// How long the output of a dead process may be held before its holders are reported.
pub(in crate::observe) const HELD_AFTER: Duration = Duration::from_secs(10);

/// The least time between two scans of one target, however many losses require one. A scan costs
/// milliseconds.
const MIN_SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// Observes the targets of one shim or one library object by one source.
pub(in crate::observe) struct Pipeline {
    source: Box<dyn Source>,
    pub(in crate::observe) tracker: Tracker,
    ports: Ports,
    reaped: process::ReapedQueries,
    holders: HolderSearches,
    targets: BTreeMap<TargetId, Watched>,
    /// Records that were read and not yet tracked. The vector is kept for its capacity.
    records: Vec<Record>,
    /// Records of sockets that wait as the records of their processes do, oldest first.
    waiting_sockets: Vec<Record>,
    /// The events that the caller has not taken yet, in order.
    emissions: Vec<Emission>,
    held_reported_at: Instant,
    /// The priority of the thread; `None` if it is that of any other thread.
    priority: Option<RaisedPriority>,
}

/// How often the calls of the runtime are checked for one that lasts for too long, while records
/// wait.
const WAITING_CHECK_INTERVAL: Duration = Duration::from_secs(1);

struct Watched {
    target: Target,
    redactor: Option<Arc<Redactor>>,
    /// How many bytes of a process's arguments are kept.
    args_max: usize,
    /// The number of lost records for which a gap was reported.
    reported_lost: u64,
    /// When the last scan began; `None` before the first.
    last_scan: Option<Instant>,
    /// A scan is due as soon as [`MIN_SCAN_INTERVAL`] allows it.
    scan_pending: bool,
    /// The names of the cgroups below the target's own, by cgroup id; `None` for an id that is not
    /// below it.
    nested: HashMap<u64, Option<Arc<str>>>,
    /// The container's id, for the owners of ports; `None` if its ports are not observed.
    name: Option<Arc<str>>,
    /// The network namespace of the target; `None` if its ports are not observed.
    network: Option<ports::Network>,
    /// The idleness of the container; `None` if it is not observed, or no longer observed.
    idle: Option<idle::IdleState>,
}

impl Pipeline {
    pub(in crate::observe) fn new(source: Box<dyn Source>, shim_pid: i32) -> std::io::Result<Self> {
        let mut tracker = Tracker::new(shim_pid);
        tracker.set_knows_provenance(source.call_marker().is_some());
        Ok(Self {
            tracker,
            source,
            ports: Ports::default(),
            reaped: process::ReapedQueries::new()?,
            holders: HolderSearches::new(),
            targets: BTreeMap::new(),
            records: Vec::with_capacity(TURN),
            waiting_sockets: Vec::new(),
            emissions: Vec::new(),
            held_reported_at: Instant::now(),
            priority: None,
        })
    }

    /// Gives the calling thread, which is to use this pipeline, a raised priority: for reading the
    /// source in time, and only as long as the containers do not make it work much.
    pub(in crate::observe) fn raise_priority(&mut self) {
        self.priority = Some(RaisedPriority::new());
    }

    pub(in crate::observe) fn backend(&self) -> Backend {
        self.source.backend()
    }

    /// Blocks until the source or `waker` is readable, or a timer has expired.
    pub(in crate::observe) fn wait(&self, waker: BorrowedFd<'_>) {
        let ready = PollFlags::POLLIN;
        let mut waits = vec![PollFd::new(waker, ready), PollFd::new(self.reaped.fd(), ready)];
        let source = self.source.fd();
        waits.extend(source.map(|source| PollFd::new(source, ready)));
        // A source without a descriptor can only be polled.
        let poll_source =
            (source.is_none() && !self.targets.is_empty()).then(|| self.source.interval());
        waits.extend(
            ports::destroyed_listener_fds(&self.targets)
                .map(|listener| PollFd::new(listener, ready)),
        );
        let timeout =
            [poll_source, self.recheck_after(), self.next_dump_after(), self.idle_check_after()]
                .into_iter()
                .flatten()
                .min();
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            // poll(2) counts whole milliseconds: rounded down, it would return before the time.
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        // The main thread handles signals; after an interrupted wait, the caller's loop has an
        // iteration that finds nothing.
        let _ = poll(&mut waits, timeout);
    }

    /// Waits for a while, so that records collect. Returns whether the whole time has passed, as
    /// [`Source::rest`] does.
    pub(in crate::observe) fn wait_to_collect(&mut self, waker: BorrowedFd<'_>) -> bool {
        let others: Vec<BorrowedFd<'_>> =
            iter::once(waker).chain(ports::destroyed_listener_fds(&self.targets)).collect();
        self.source.wait_to_collect(&others)
    }

    /// Observes a target from now on. `init` is the pid of a container's first process, or `None`
    /// for a target that is no container; see [`Tracker::begin`]. Without a redactor, arguments are
    /// kept as they are.
    ///
    /// # Errors
    ///
    /// The source refused the target. Nothing of the target is observed then.
    pub(in crate::observe) fn watch(
        &mut self,
        id: TargetId,
        target: Target,
        init: Option<i32>,
        redactor: Option<Arc<Redactor>>,
        args_max: usize,
    ) -> Result<(), SourceError> {
        self.source.watch(id, &target)?;
        if let (Target::Cgroup { path, .. }, Some(init)) = (&target, init)
            && let Err(error) = self.source.add_created(id, path, init)
        {
            self.source.unwatch(id);
            return Err(error);
        }
        self.targets.insert(
            id,
            Watched {
                target,
                redactor,
                args_max,
                reported_lost: 0,
                last_scan: None,
                scan_pending: false,
                nested: HashMap::new(),
                name: None,
                network: None,
                idle: None,
            },
        );
        self.tracker.begin(id, init);
        Ok(())
    }

    /// Scans a target now, or as soon as [`MIN_SCAN_INTERVAL`] allows it, and reports the changes
    /// that no record has reported.
    pub(in crate::observe) fn request_scan(&mut self, id: TargetId) {
        self.tracker.request_scan(id);
        self.run_effects();
    }

    /// Ends a target. Reports that its open ports are closed and its processes have ended, and then
    /// its account.
    pub(in crate::observe) fn end(&mut self, id: TargetId) {
        let counts = self.source.counts(id);
        self.source.unwatch(id);
        let reported = self.targets.get(&id).map_or(0, |watched| watched.reported_lost);
        // The source reports a loss together with a later record. No record followed these losses,
        // so they are reported here.
        if let Some(lost) =
            counts.and_then(|counts| counts.lost.checked_sub(reported)).filter(|lost| *lost > 0)
        {
            let now = monotonic_ns();
            let gap = Gap { lost: Some(lost), stage: Stage::Kernel, from_ns: now, to_ns: now };
            self.emit(id, now, Body::Gap(gap));
        }
        self.record_waiting_sockets(Some(id));
        self.end_ports(id);
        self.holders.forget(id);
        let counts = counts.map(|KernelCounts { seen, lost }| (seen, lost));
        self.tracker.end(id, counts, monotonic_ns());
        self.run_effects();
        self.targets.remove(&id);
    }

    /// Reports that an unknown number of records of a target is missing at this point. A scan must
    /// follow.
    pub(in crate::observe) fn report_missing(&mut self, id: TargetId) {
        let now = monotonic_ns();
        self.tracker.may_have_lost(id);
        let gap = Gap { lost: None, stage: Stage::Source, from_ns: now, to_ns: now };
        self.emit(id, now, Body::Gap(gap));
    }

    /// Continues with another source. Each target gets a gap for the time between the two sources,
    /// and a scan.
    pub(in crate::observe) fn replace(&mut self, source: Box<dyn Source>) {
        self.source = source;
        self.tracker.set_knows_provenance(self.source.call_marker().is_some());
        let targets: Vec<TargetId> = self.targets.keys().copied().collect();
        for id in targets {
            self.report_missing(id);
            if let Err(error) = self.source.watch(id, &self.targets[&id].target) {
                // The target is kept, because the shim's reaper still reports its exits.
                tracing::warn!(
                    target = id.0,
                    %error,
                    "target no longer observed: the new source refused it"
                );
            }
            self.attach_ports(id);
            self.request_scan(id);
        }
    }

    /// Reads at most about [`TURN`] records, which [`track`](Self::track) then processes. Returns
    /// whether there may be more. Never blocks.
    ///
    /// # Errors
    ///
    /// The source has ended.
    pub(in crate::observe) fn read(&mut self) -> Result<bool, SourceError> {
        let records = &mut self.records;
        self.source.read(TURN, &mut |record| records.push(record))
    }

    /// After a read that has left records in the source: whether some of them may be of this
    /// target.
    pub(in crate::observe) fn may_have_more(&self, id: TargetId) -> bool {
        self.source.may_have_more(id)
    }

    /// Passes the records that were read to the tracker. Returns whether there were any.
    pub(in crate::observe) fn track(&mut self) -> bool {
        let mut records = std::mem::take(&mut self.records);
        let busy = !records.is_empty();
        for record in records.drain(..) {
            self.record(record);
        }
        self.records = records;
        self.run_effects();
        if let Some(priority) = &mut self.priority {
            priority.adjust();
        }
        busy
    }

    /// Informs the tracker which dead processes have been reaped.
    pub(in crate::observe) fn report_reaped(&mut self) {
        let now = monotonic_ns();
        let (tracker, targets) = (&mut self.tracker, &self.targets);
        // Asking each of the few targets costs less than keeping the target of every process.
        self.reaped.answers(&mut |key| {
            targets.keys().for_each(|id| tracker.confirm_reaped(*id, key, now))
        });
        self.run_effects();
    }

    /// Reports each dead process that has had its output held for [`HELD_AFTER`], with the holders.
    pub(in crate::observe) fn report_held_outputs(&mut self) {
        // This visits every process, so it does not run in every iteration of the caller's loop.
        const INTERVAL: Duration = Duration::from_secs(1);
        if self.held_reported_at.elapsed() >= INTERVAL && self.tracker.awaits_done() {
            self.held_reported_at = Instant::now();
            let held_after = u64::try_from(HELD_AFTER.as_nanos()).unwrap_or(u64::MAX);
            self.call_tracker(|tracker, now| tracker.report_held(now, held_after));
        }
    }

    /// Reports the processes of calls of the runtime that have lasted for too long.
    pub(in crate::observe) fn report_overdue_calls(&mut self) {
        if self.tracker.has_waiting_records() {
            self.call_tracker(Tracker::report_overdue);
        }
    }

    /// How long until the pipeline has work although nothing is readable; `None` if no such work is
    /// pending.
    fn recheck_after(&self) -> Option<Duration> {
        let held = self.tracker.awaits_done().then_some(HELD_AFTER);
        let is_pending = |watched: &Watched| watched.scan_pending || watched.is_dump_pending();
        let scan = self.targets.values().any(is_pending).then_some(MIN_SCAN_INTERVAL);
        let overdue = self.tracker.has_waiting_records().then_some(WAITING_CHECK_INTERVAL);
        let again = [self.reaped.next_check_after(), self.holders.due_after()];
        [held, scan, overdue].into_iter().chain(again).flatten().min()
    }

    /// Calls the tracker with a fact that is not a record, such as a reaped exit, and runs the
    /// effects. The closure receives the tracker and `CLOCK_MONOTONIC` in nanoseconds.
    pub(in crate::observe) fn call_tracker(&mut self, call: impl FnOnce(&mut Tracker, u64)) {
        call(&mut self.tracker, monotonic_ns());
        self.run_effects();
    }

    /// Emits an event that does not come from the tracker, in order with the events of the tracker.
    pub(in crate::observe) fn emit(&mut self, id: TargetId, at_ns: u64, body: Body) {
        self.emissions.push(Emission {
            target: Some(id),
            at_ns,
            grade: Grade::Exact,
            derived: true,
            body,
        });
    }

    /// Takes the emissions since the last call, in order.
    pub(in crate::observe) fn take_emissions(&mut self) -> std::vec::Drain<'_, Emission> {
        self.emissions.drain(..)
    }

    /// Frees what the pipeline keeps for its capacity, after a flood of processes.
    pub(in crate::observe) fn shrink(&mut self) {
        self.records.shrink_to(TURN);
        self.waiting_sockets.shrink_to_fit();
        self.emissions.shrink_to_fit();
        self.reaped.shrink();
    }

    /// About how many bytes the known processes of all targets need.
    pub(in crate::observe) fn process_bytes(&self) -> usize {
        self.tracker.process_bytes()
    }

    /// The living processes of all targets after a position, parents first.
    pub(in crate::observe) fn processes_after(
        &self,
        after: Position,
    ) -> Vec<(Position, Arc<Process>)> {
        self.tracker.living_after(after)
    }

    fn record(&mut self, mut record: Record) {
        if self.socket_waits(&record) {
            return self.waiting_sockets.push(record);
        }
        self.record_socket(&record);
        if let Record::Process { target, .. } | Record::Scan { target, .. } = &record
            && let Some(watched) = self.targets.get_mut(target)
        {
            watched.dump_soon();
        }
        if let Record::Lost { target: Some(id), count: Some(count), .. } = &record
            && let Some(watched) = self.targets.get_mut(id)
        {
            watched.reported_lost += count;
        }
        if let Record::Process { target, what, .. } = &mut record
            && let Some(watched) = self.targets.get_mut(target)
            && let What::Exec { image, cgroup, .. } | What::Alive { image, cgroup, .. } = what
        {
            cut_and_redact(watched, image);
            if let Some(id) = *cgroup {
                let (id, target) = (id, *target);
                if let Some(name) = watched.nested_name(id) {
                    self.tracker.set_cgroup_name(target, id, name);
                }
            }
        }
        self.tracker.record(record);
    }

    /// Runs the tracker's effects. An answer may cause further effects, so this loops until no
    /// effect remains.
    fn run_effects(&mut self) {
        self.record_waiting_sockets(None);
        let mut effects = self.tracker.take_effects();
        while !effects.is_empty() || self.search_holders() {
            for effect in effects {
                match effect {
                    Effect::Emit(emission) => self.emissions.push(emission),
                    Effect::QueryReaped { key, .. } => {
                        // A query is refused if too many are waiting. That the process is done is
                        // then reported when the container ends.
                        let _ = self.reaped.ask(key);
                    }
                    Effect::QueryHolders { target, key, outputs, among } => {
                        self.holders.ask(target, key, outputs, among);
                    }
                    Effect::Scan { target } => self.scan_or_defer(target),
                }
            }
            effects = self.tracker.take_effects();
        }
    }
}

impl Watched {
    fn may_scan(&self) -> bool {
        self.last_scan.is_none_or(|last| last.elapsed() >= MIN_SCAN_INTERVAL)
    }

    /// The path of a cgroup below the target's own, by its id. Each id is searched for once, and at
    /// most 1024 are kept: a container can make cgroups without end. Beyond that, processes are
    /// reported without their cgroup.
    fn nested_name(&mut self, id: u64) -> Option<Arc<str>> {
        const LIMIT: usize = 1024;
        let Target::Cgroup { path, .. } = &self.target else { return None };
        if self.nested.len() >= LIMIT && !self.nested.contains_key(&id) {
            return None;
        }
        let name =
            self.nested.entry(id).or_insert_with(|| cgroup::name_below(path, id).map(Arc::from));
        name.clone()
    }
}

/// Cuts and redacts the arguments. No copy of the original remains in the shim.
fn cut_and_redact(watched: &Watched, image: &mut Arc<Image>) {
    // The source has just made the image and kept no reference, so this does not clone.
    let image = Arc::make_mut(image);
    let Some(mut args) = image.args.take() else { return };
    if args.bytes.len() > watched.args_max {
        args.bytes = args.bytes[..watched.args_max].into();
    }
    image.args = Some(match &watched.redactor {
        Some(redactor) => redactor.redact(args),
        None => args,
    });
}
