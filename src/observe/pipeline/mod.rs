//! One source, one tracker, and the questions between them.
//!
//! What the shim's observer and the library's [`Detector`](super::Detector) have in common. It
//! belongs to one thread, which [`wait`](Pipeline::wait)s and then takes its turns.

mod idle;
mod inbox;
mod ports;

pub(in crate::observe) use inbox::Inbox;

use std::{
    collections::{BTreeMap, HashMap},
    iter,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    clock::monotonic_ns,
    model::{Backend, Body, Gap, Grade, Image, Process, ProcessKey, Stage, chain},
    observe::{
        record::{Record, TargetId, What},
        redact::Redactor,
        source::{KernelCounts, Source, SourceError, Target, scan::scan},
        track::{Effect, Emission, Tracker, ports::Ports},
    },
    platform::{cgroup, process},
};

/// How many records are read before anything else is looked at: so few that what is made of them is
/// given back before the allocator's own small caches are full.
const TURN: usize = 64;

/// A dead process whose output is held for longer than this is told with its holders.
pub(in crate::observe) const HELD_AFTER: Duration = Duration::from_secs(10);

/// A look at `/proc` is followed by the next one of the same target after this long, however much
/// is lost meanwhile: a look costs milliseconds, and this thread runs before all others.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// See the module.
pub(in crate::observe) struct Pipeline {
    source: Box<dyn Source>,
    pub(in crate::observe) tracker: Tracker,
    ports: Ports,
    reaped: process::Reaped,
    targets: BTreeMap<TargetId, Watched>,
    /// Read and not yet tracked; kept for its room.
    records: Vec<Record>,
    effects: Vec<Effect>,
    told: Vec<Emission>,
    overdue_told: Instant,
}

struct Watched {
    target: Target,
    redactor: Option<Arc<Redactor>>,
    /// How many bytes of the arguments are kept.
    args_max: usize,
    /// Losses in the kernel that were told.
    lost_told: u64,
    /// When the last look at it ended.
    looked: Option<Instant>,
    /// Another look is wanted, as soon as it may be.
    look_wanted: bool,
    /// Names of cgroups below the target's own, by id.
    nested: HashMap<u64, Option<Arc<str>>>,
    /// The container's, where it is one.
    name: Option<Arc<str>>,
    /// Where its ports are, if they are told.
    network: Option<ports::Network>,
    /// What tells whether it is idle, if that is told.
    quiet: Option<idle::Quiet>,
}

impl Pipeline {
    pub(in crate::observe) fn new(source: Box<dyn Source>, shim_pid: i32) -> std::io::Result<Self> {
        Ok(Self {
            source,
            tracker: Tracker::new(shim_pid),
            ports: Ports::default(),
            reaped: process::Reaped::new()?,
            targets: BTreeMap::new(),
            records: Vec::with_capacity(TURN),
            effects: Vec::new(),
            told: Vec::new(),
            overdue_told: Instant::now(),
        })
    }

    pub(in crate::observe) fn backend(&self) -> Backend {
        self.source.backend()
    }

    /// Waits until there is something to do, here or where `waker` rings.
    pub(in crate::observe) fn wait(&self, waker: BorrowedFd<'_>) {
        let ready = PollFlags::POLLIN;
        let mut waits = vec![PollFd::new(waker, ready), PollFd::new(self.reaped.fd(), ready)];
        let source = self.source.fd();
        waits.extend(source.map(|source| PollFd::new(source, ready)));
        // A source without a descriptor has to be asked.
        let ask = (source.is_none() && !self.targets.is_empty()).then(|| self.source.interval());
        waits.extend(ports::destroyed(&self.targets).map(|gone| PollFd::new(gone, ready)));
        let timeout = [ask, self.again_after(), self.ask_ports_after(), self.idle_after()]
            .into_iter()
            .flatten()
            .min();
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            // Rounded up, so that what is due is due.
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        // A signal is the main thread's affair.
        let _ = poll(&mut waits, timeout);
    }

    /// Lets records collect, as [`Source::rest`] has it.
    pub(in crate::observe) fn rest(&mut self, waker: BorrowedFd<'_>) -> bool {
        let others: Vec<BorrowedFd<'_>> =
            iter::once(waker).chain(ports::destroyed(&self.targets)).collect();
        self.source.rest(&others)
    }

    /// Watches from now on. `init` as [`Tracker::begin`] has it.
    pub(in crate::observe) fn watch(
        &mut self,
        id: TargetId,
        target: Target,
        init: Option<i32>,
        redactor: Option<Arc<Redactor>>,
        args_max: usize,
    ) -> Result<(), SourceError> {
        self.source.watch(id, &target)?;
        self.targets.insert(
            id,
            Watched {
                target,
                redactor,
                args_max,
                lost_told: 0,
                looked: None,
                look_wanted: false,
                nested: HashMap::new(),
                name: None,
                network: None,
                quiet: None,
            },
        );
        self.tracker.begin(id, init);
        Ok(())
    }

    /// Looks at who is there now and tells what that says.
    pub(in crate::observe) fn look(&mut self, id: TargetId) {
        self.effects.push(Effect::Look { target: id });
        self.perform();
    }

    /// Ends a target: everything of it is told, its account last.
    pub(in crate::observe) fn end(&mut self, id: TargetId) {
        let counts = self.source.counts(id);
        self.source.unwatch(id);
        let told = self.targets.get(&id).map_or(0, |watched| watched.lost_told);
        if let Some(untold) =
            counts.and_then(|counts| counts.lost.checked_sub(told)).filter(|untold| *untold > 0)
        {
            // Nothing came after it that would have told.
            let now = monotonic_ns();
            let gap = Gap { lost: Some(untold), stage: Stage::Kernel, from_ns: now, to_ns: now };
            self.tell(id, now, Body::Gap(gap));
        }
        self.end_ports(id);
        let counts = counts.map(|KernelCounts { seen, lost }| (seen, lost));
        self.tracker.end(id, counts, monotonic_ns(), &mut self.effects);
        self.perform();
        self.targets.remove(&id);
    }

    /// Takes another source and goes on: what happened in between is told as a gap and looked for.
    pub(in crate::observe) fn replace(&mut self, source: Box<dyn Source>) {
        self.source = source;
        let targets: Vec<TargetId> = self.targets.keys().copied().collect();
        for id in targets {
            let now = monotonic_ns();
            self.tell(
                id,
                now,
                Body::Gap(Gap { lost: None, stage: Stage::Source, from_ns: now, to_ns: now }),
            );
            if let Err(error) = self.source.watch(id, &self.targets[&id].target) {
                tracing::warn!(target = id.0, %error, "no longer watched");
            }
            self.attach(id);
            self.look(id);
        }
    }

    /// Reads what there is, a bounded part of it, and answers whether there may be more.
    pub(in crate::observe) fn read(&mut self) -> Result<bool, SourceError> {
        let records = &mut self.records;
        self.source.read(TURN, &mut |record| records.push(record))
    }

    /// Tracks what was read; answers whether there was anything.
    pub(in crate::observe) fn track(&mut self) -> bool {
        let mut records = std::mem::take(&mut self.records);
        let busy = !records.is_empty();
        for record in records.drain(..) {
            self.record(record);
        }
        self.records = records;
        self.perform();
        busy
    }

    /// Asks for the dead that are now reaped.
    pub(in crate::observe) fn ask_reaped(&mut self) {
        let now = monotonic_ns();
        let (tracker, targets, effects) = (&mut self.tracker, &self.targets, &mut self.effects);
        // Attribution it was is quicker asked of the few targets than kept for each process.
        self.reaped.answers(&mut |key| {
            targets.keys().for_each(|id| tracker.reaped(*id, key, now, effects))
        });
        self.perform();
    }

    /// Tells what has been held for long.
    pub(in crate::observe) fn tell_overdue(&mut self) {
        // It looks at every process.
        const BETWEEN: Duration = Duration::from_secs(1);
        if self.overdue_told.elapsed() >= BETWEEN && self.tracker.awaits_done() {
            self.overdue_told = Instant::now();
            let held_after = u64::try_from(HELD_AFTER.as_nanos()).unwrap_or(u64::MAX);
            self.settle(|tracker, now, effects| tracker.overdue(now, held_after, effects));
        }
    }

    /// When to take a turn though nothing is readable.
    fn again_after(&self) -> Option<Duration> {
        let held = self.tracker.awaits_done().then_some(HELD_AFTER);
        let wants = |watched: &Watched| watched.look_wanted || watched.wants_dump();
        let look = self.targets.values().any(wants).then_some(BETWEEN_LOOKS);
        [held, look, self.reaped.again_after()].into_iter().flatten().min()
    }

    /// Tells what the tracker was told by others than the source, and answers its questions.
    pub(in crate::observe) fn settle(
        &mut self,
        tell: impl FnOnce(&mut Tracker, u64, &mut Vec<Effect>),
    ) {
        tell(&mut self.tracker, monotonic_ns(), &mut self.effects);
        self.perform();
    }

    /// Tells what the tracker does not know, in its place among what it tells.
    pub(in crate::observe) fn tell(&mut self, id: TargetId, at_ns: u64, body: Body) {
        self.told.push(Emission {
            target: Some(id),
            at_ns,
            grade: Grade::Exact,
            derived: true,
            body,
        });
    }

    /// Everything that there is to tell, in order.
    pub(in crate::observe) fn take_told(&mut self) -> std::vec::Drain<'_, Emission> {
        self.told.drain(..)
    }

    pub(in crate::observe) fn processes(
        &self,
        id: Option<TargetId>,
    ) -> Vec<(TargetId, Arc<Process>)> {
        self.tracker.snapshot(id)
    }

    fn record(&mut self, mut record: Record) {
        self.socket(&record);
        if let Record::Process { target, .. } = &record
            && let Some(watched) = self.targets.get_mut(target)
        {
            watched.ask_soon();
        }
        if let Record::Lost { target: Some(id), count: Some(count), .. } = &record
            && let Some(watched) = self.targets.get_mut(id)
        {
            watched.lost_told += count;
        }
        if let Record::Process { target, what, .. } = &mut record
            && let Some(watched) = self.targets.get_mut(target)
            && let What::Exec { image, cgroup, .. } | What::Alive { image, cgroup, .. } = what
        {
            prepare(watched, image);
            if let Some(id) = *cgroup {
                let (id, target) = (id, *target);
                if let Some(name) = watched.nested_name(id) {
                    self.tracker.set_cgroup_name(target, id, name);
                }
            }
        }
        self.tracker.record(record, &mut self.effects);
    }

    /// Performs what the tracker asks for, until it asks for no more.
    fn perform(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        while !effects.is_empty() {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Emit(told) => self.told.push(told),
                    Effect::AskReaped { key, .. } => {
                        // Refused where too many wait: its done is told with the container's end.
                        let _ = self.reaped.ask(key);
                    }
                    Effect::AskHolders { target, key, outputs, among } => {
                        let holders = process::holders(outputs, &among);
                        self.tracker.holders(
                            target,
                            key,
                            &holders,
                            monotonic_ns(),
                            &mut self.effects,
                        );
                    }
                    Effect::Look { target } => self.want_look(target),
                }
            }
            std::mem::swap(&mut effects, &mut self.effects);
        }
        self.effects = effects;
    }
}

impl Pipeline {
    /// Looks now, or when it may.
    fn want_look(&mut self, id: TargetId) {
        let Some(watched) = self.targets.get_mut(&id) else { return };
        watched.look_wanted = true;
        if watched.looked.is_none_or(|looked| looked.elapsed() >= BETWEEN_LOOKS) {
            self.look_at(id);
        }
    }

    /// The looks that were put off and may be now.
    pub(in crate::observe) fn look_again(&mut self) {
        let due = |watched: &Watched| {
            watched.look_wanted
                && watched.looked.is_none_or(|looked| looked.elapsed() >= BETWEEN_LOOKS)
        };
        let due: Vec<TargetId> =
            self.targets.iter().filter(|(_, watched)| due(watched)).map(|(id, _)| *id).collect();
        for id in due {
            self.look_at(id);
            self.perform();
        }
        self.dump_again();
    }

    /// Finds who is alive, and has the tracker compare.
    fn look_at(&mut self, id: TargetId) {
        let Some(watched) = self.targets.get_mut(&id) else { return };
        watched.looked = Some(Instant::now());
        watched.look_wanted = false;
        let dump = self.dump(id);
        let watched = &self.targets[&id];
        let known: Vec<ProcessKey> =
            self.tracker.snapshot(Some(id)).iter().map(|(_, process)| process.key).collect();
        let records = match scan(id, &watched.target, &known) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(target = id.0, error = chain(&error), "no look at what is alive");
                Vec::new()
            }
        };
        // An exit that the source still has says more than an absence.
        let drained = self.read_all();
        for record in drained.into_iter().chain(records) {
            self.record(record);
        }
        self.compare(id, dump);
    }

    /// What the source has at this moment; a source that has ended has nothing.
    fn read_all(&mut self) -> Vec<Record> {
        /// A ring holds less; a source that never ends is not followed further.
        const MOST: usize = 1 << 16;
        let mut records = Vec::new();
        while records.len() < MOST
            && self.source.read(TURN, &mut |record| records.push(record)).unwrap_or(false)
        {}
        records
    }
}

impl Watched {
    /// Looks once for each id that it has not met, so many of them at most; processes of others are
    /// told without.
    fn nested_name(&mut self, id: u64) -> Option<Arc<str>> {
        const MOST: usize = 1024;
        let Target::Cgroup { path, .. } = &self.target else { return None };
        if self.nested.len() >= MOST && !self.nested.contains_key(&id) {
            return None;
        }
        let name =
            self.nested.entry(id).or_insert_with(|| cgroup::name_below(path, id).map(Arc::from));
        name.clone()
    }
}

/// Cuts and redacts the arguments: from here on nobody has them otherwise.
fn prepare(watched: &Watched, image: &mut Arc<Image>) {
    // The source made it a moment ago and kept no copy: nothing is cloned.
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
