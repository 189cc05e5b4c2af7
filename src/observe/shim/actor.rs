//! The observer's own thread: reads the source, hears the shim, tells the event_log.
//!
//! ```text
//!  wait ──► messages ──► read ──► messages ──► track ──► messages about the past ──► publish ─┐
//!   ▲                                                                                     │
//!   └────────── nothing came, or 1 ms for more to collect, 4 in a storm ◄─────────────────┘
//! ```
//!
//! The order is the point. What must be known before a record (which child of the shim is whose
//! exec) is told by the shim before the cause of that record, so messages are taken *after* reading
//! and applied *before* tracking. What is about the past (an exit that was reaped) comes after
//! every record of before, so it waits until a read that began after it has found the end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    os::unix::ffi::OsStrExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::sync::oneshot;

use super::{
    message::{Message, Serial},
    service::{Living, OpenPort},
    shared::Shared,
    sources,
};
use crate::{
    clock::{monotonic_ns, realtime_offset_ns},
    config::Settings,
    linux::{cgroup::CgroupLocation, process},
    model::{Backend, Body, Container, Counts, Event, Gap, Grade, ProcessKey, Stage},
    observe::{
        node,
        pipeline::Pipeline,
        record::TargetId,
        redact::Redactor,
        source::{SourceError, Target},
        track::Emission,
    },
};

/// Room for path names and one turn of records.
const STACK: usize = 256 << 10;

/// Starts the thread. It ends with [`Message::Stop`], or when observing has failed wholly.
pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<()> {
    thread::Builder::new().name("observe".into()).stack_size(STACK).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(&shared)));
        let why = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(crate::model::chain(&error)),
            Err(_) => Some("the observer panicked".to_owned()),
        };
        // Whoever waits for an answer has it now: none.
        drop(shared.inbox.close());
        if let Some(why) = why {
            tracing::error!(why, "containers are no longer observed");
            shared.failed(&why);
        }
    })?;
    Ok(())
}

fn run(shared: &Arc<Shared>) -> Result<(), SourceError> {
    crate::sys::process::raise_thread_priority();
    let source = sources::open(shared)?;
    let shim = i32::try_from(std::process::id()).unwrap_or_default();
    let pipeline = Pipeline::new(source, shim).map_err(|source| SourceError::Kernel {
        action: "make what the observer waits on",
        source,
    })?;
    let mut observer = Actor {
        shared: shared.clone(),
        pipeline,
        targets: HashMap::new(),
        containers: BTreeMap::new(),
        unobserved: HashMap::new(),
        later: VecDeque::new(),
        leaving: None,
        told: Vec::new(),
        events: Vec::new(),
        rested: true,
        realtime_offset_ns: realtime_offset_ns(),
    };
    // The first container is watched before anything is done for the node.
    observer.pipeline.wait(observer.shared.inbox.waker());
    let mut more = observer.turn()?;
    if observer.pipeline.backend() == Backend::Bpf
        && let Err(error) = node::sweep()
    {
        tracing::warn!(error = crate::model::chain(&error), "what dead shims left stays");
    }
    while observer.rest(more) {
        more = observer.turn()?;
    }
    while observer.leaving.is_none() {
        observer.pipeline.wait(observer.shared.inbox.waker());
        loop {
            let turn = observer.turn()?;
            if !observer.rest(turn) {
                break;
            }
        }
    }
    let stopped = observer.leaving.take();
    // Its slot and its targets are given back before the process may end.
    drop(observer);
    if let Some(stopped) = stopped {
        let _ = stopped.send(());
    }
    Ok(())
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing: wait.
    Idle,
    /// Everything there was: more will have come in a while.
    Busy,
    /// As much as one turn takes: there is more.
    More,
}

struct Actor {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    targets: HashMap<Serial, TargetId>,
    /// A handful, looked into for each event: ordered is quicker than hashed.
    containers: BTreeMap<TargetId, Arc<Container>>,
    /// Those that cannot be watched.
    unobserved: HashMap<Serial, Arc<Container>>,
    /// Letters about the past that a read has yet to overtake.
    later: VecDeque<Message>,
    /// Emission when everything was given back.
    leaving: Option<oneshot::Sender<()>>,
    /// What the pipeline told, and what is made of it; kept for their room.
    told: Vec<Emission>,
    events: Vec<Event>,
    /// Whether nothing can have come without waking us: see
    /// [`Source::rest`](super::source::Source::rest).
    rested: bool,
    /// Asked once a turn.
    realtime_offset_ns: u64,
}

impl Actor {
    /// Lets records collect, unless there are some to read. Answers whether another turn follows:
    /// not where there was nothing for a whole rest.
    fn rest(&mut self, turn: Turn) -> bool {
        match turn {
            Turn::Idle if self.rested || self.leaving.is_some() => return false,
            Turn::More => self.rested = false,
            Turn::Idle | Turn::Busy => self.rested = self.pipeline.rest(self.shared.inbox.waker()),
        }
        true
    }

    /// One turn.
    fn turn(&mut self) -> Result<Turn, SourceError> {
        self.hear();
        let more = match self.pipeline.read() {
            Ok(more) => more,
            Err(error) => {
                let source = sources::replace(&self.shared, self.pipeline.backend(), error)?;
                self.pipeline.replace(source);
                true
            }
        };
        let past = self.later.len();
        self.hear();
        let busy = self.pipeline.track();
        self.rested &= !busy && !more;
        self.pipeline.ask_reaped();
        if !more {
            for message in self.later.drain(..past).collect::<Vec<_>>() {
                self.past(message);
            }
        }
        self.pipeline.look_again();
        self.pipeline.tell_overdue();
        self.pipeline.tell_idle();
        self.publish();
        Ok(match (self.leaving.is_some(), more, busy || !self.later.is_empty()) {
            (true, ..) | (_, false, false) => Turn::Idle,
            (_, true, _) => Turn::More,
            (_, false, true) => Turn::Busy,
        })
    }

    /// Takes the messages, acts on those that come first, and keeps the others.
    fn hear(&mut self) {
        for message in self.shared.inbox.take() {
            if message.comes_first() { self.first(message) } else { self.later.push_back(message) }
        }
    }

    fn first(&mut self, message: Message) {
        match message {
            Message::Created {
                serial,
                container,
                settings,
                init,
                restored,
                owns_pid_namespace,
                runtime,
                input,
                watched,
            } => {
                let late = restored || watched.is_closed();
                let pid_namespace =
                    owns_pid_namespace.then(|| process::pid_namespace(init)).flatten();
                let name = container.id.clone();
                let id = self.created(serial, container, &settings, init, pid_namespace, late);
                if let Some(id) = id {
                    self.pipeline.tracker.runtime_path(id, runtime.as_os_str().as_bytes());
                    self.pipeline.watch_ports(id, init, &name, late);
                    self.pipeline.watch_idle(id, settings.idle_after, input);
                }
                // The shim may have given up meanwhile, and init run.
                if watched.send(()).is_err() && !late {
                    id.into_iter().for_each(|id| self.missed_beginning(id));
                }
            }
            Message::RuntimeExec { serial, exec_id, pid } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.runtime_exec(*id, &exec_id, pid);
                    // Before anything of it can have come, its end included.
                    self.pipeline.tracker.expects_output_end(*id, &exec_id);
                }
            }
            Message::ExecStarted { serial, exec_id, pid } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.exec_started(*id, &exec_id, pid);
                    self.pipeline.exec_started(*id, &exec_id);
                }
            }
            other => self.later.push_back(other),
        }
    }

    fn created(
        &mut self,
        serial: Serial,
        mut container: Container,
        settings: &Settings,
        init: i32,
        pid_namespace: Option<u32>,
        late: bool,
    ) -> Option<TargetId> {
        let began = monotonic_ns();
        let location = match CgroupLocation::of_process(init) {
            Ok(location) => location,
            Err(error) => {
                tracing::warn!(id = container.id, %error, "not observed: no cgroup");
                self.unobserved(serial, Arc::new(container), init, began);
                return None;
            }
        };
        container.cgroup = location.path;
        let container = Arc::new(container);
        // No cgroup's id has the top bit that a made-up one has.
        let target_id = location.id.map_or_else(|| TargetId::of_this_process(serial.0), TargetId);
        let target = Target::Cgroup { path: location.directory, pid_namespace };
        let args_max = usize::try_from(settings.argv_max).unwrap_or(usize::MAX);
        if let Err(error) =
            self.pipeline.watch(target_id, target, Some(init), Some(redactor(settings)), args_max)
        {
            tracing::warn!(id = container.id, error = crate::model::chain(&error), "not observed");
            self.unobserved(serial, container, init, began);
            return None;
        }
        self.targets.insert(serial, target_id);
        self.containers.insert(target_id, container);
        self.pipeline.tracker.expects_output_end(target_id, "");
        let init = process::identify(init).unwrap_or(ProcessKey { pid: init, start_ticks: 0 });
        self.pipeline.tell(target_id, began, Body::ContainerStart { init });
        if late {
            self.missed_beginning(target_id);
        } else if self.pipeline.backend() != Backend::Bpf {
            // Nothing was missed yet; what will be, nobody will count.
            let gap = Gap { lost: None, stage: Stage::Kernel, from_ns: began, to_ns: began };
            self.pipeline.tell(target_id, began, Body::Gap(gap));
        }
        Some(target_id)
    }

    /// Something may have happened before the watch: told, and looked for.
    fn missed_beginning(&mut self, id: TargetId) {
        let now = monotonic_ns();
        self.pipeline.tell(
            id,
            now,
            Body::Gap(Gap { lost: None, stage: Stage::Source, from_ns: now, to_ns: now }),
        );
        self.pipeline.look(id);
    }

    /// A container that cannot be watched begins with a gap of which nobody knows the size, and
    /// ends.
    fn unobserved(&mut self, serial: Serial, container: Arc<Container>, init: i32, at_ns: u64) {
        let init = process::identify(init).unwrap_or(ProcessKey { pid: init, start_ticks: 0 });
        let gap = Gap { lost: None, stage: Stage::Source, from_ns: at_ns, to_ns: at_ns };
        for body in [Body::ContainerStart { init }, Body::Gap(gap)] {
            self.push(Some(container.clone()), at_ns, Grade::Exact, Backend::Shim, body);
        }
        self.shared.event_log.publish(&mut self.events);
        self.unobserved.insert(serial, container);
    }

    fn past(&mut self, message: Message) {
        match message {
            Message::Exited { serial, exec_id, exit } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                match exec_id.as_str() {
                    "" => self.pipeline.unwatch_idle(id),
                    exec_id => self.pipeline.exec_ended(id, exec_id),
                }
                self.pipeline.settle(|tracker, now, effects| {
                    tracker.reaped_exit(id, &exec_id, exit.pid, exit.status(), now, effects);
                });
            }
            Message::OutputEnded { serial, exec_id } => {
                let Some(id) = self.targets.get(&serial).copied() else { return };
                self.pipeline.settle(|tracker, now, effects| {
                    tracker.output_ended(id, &exec_id, now, effects)
                });
            }
            Message::Input { serial } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.input(*id);
                }
            }
            Message::Deleted { serial } => {
                let Some(id) = self.targets.remove(&serial) else {
                    if let Some(container) = self.unobserved.remove(&serial) {
                        let close = Body::ContainerClose(Counts::default());
                        self.push(
                            Some(container),
                            monotonic_ns(),
                            Grade::Exact,
                            Backend::Shim,
                            close,
                        );
                        self.shared.event_log.publish(&mut self.events);
                    }
                    return;
                };
                self.pipeline.end(id);
                self.publish();
                self.containers.remove(&id);
            }
            Message::Processes { container_id, reply } => {
                self.publish();
                let is_meant =
                    |container: &Container| container_id.is_empty() || container.id == container_id;
                let found =
                    self.pipeline.processes(None).into_iter().filter_map(|(id, process)| {
                        let container =
                            self.containers.get(&id).filter(|container| is_meant(container))?;
                        Some((container.clone(), process))
                    });
                let meant = self.containers.iter().filter(|(_, container)| is_meant(container));
                let living = Living {
                    processes: found.collect(),
                    idle: meant
                        .clone()
                        .filter(|(id, _)| self.pipeline.is_idle(**id))
                        .map(|(_, one)| one.clone())
                        .collect(),
                    seq: self.shared.event_log.seq(),
                };
                let is_known = container_id.is_empty() || meant.count() > 0;
                let _ = reply.send(is_known.then_some(living));
            }
            Message::Ports { container_id, reply } => {
                let is_meant =
                    |container: &Container| container_id.is_empty() || container.id == container_id;
                let meant = self.containers.iter().filter(|(_, container)| is_meant(container));
                let meant: BTreeMap<_, _> =
                    meant.map(|(id, container)| (*id, container.clone())).collect();
                let is_known = container_id.is_empty() || !meant.is_empty();
                let ports = |(id, container): (TargetId, Arc<Container>)| {
                    let [told, listed] = self.pipeline.ports(id);
                    let told = told.into_iter().map(|port| (port, false));
                    let all = told.chain(listed.into_iter().map(|port| (port, true)));
                    let open = |(port, listed_only)| OpenPort {
                        container: container.clone(),
                        port,
                        listed_only,
                    };
                    all.map(open).collect::<Vec<_>>()
                };
                let found = meant.into_iter().flat_map(ports).collect();
                self.publish();
                let _ = reply.send(is_known.then_some((found, self.shared.event_log.seq())));
            }
            Message::Stop { stopped } => {
                self.publish();
                self.leaving = Some(stopped);
            }
            // Acted on when they were taken.
            Message::Created { .. } | Message::RuntimeExec { .. } | Message::ExecStarted { .. } => {
            }
        }
    }

    fn publish(&mut self) {
        let mut told = std::mem::take(&mut self.told);
        told.extend(self.pipeline.take_told());
        if !told.is_empty() {
            self.realtime_offset_ns = realtime_offset_ns();
        }
        for Emission { target, at_ns, grade, derived, body } in told.drain(..) {
            let container = target.and_then(|id| self.containers.get(&id)).cloned();
            let source = match grade {
                // A look at /proc, whoever asked for it.
                Grade::Snapshot => Backend::Poll,
                _ if derived => Backend::Shim,
                _ => self.pipeline.backend(),
            };
            self.push(container, at_ns, grade, source, body);
        }
        self.told = told;
        self.shared.event_log.publish(&mut self.events);
    }

    fn push(
        &mut self,
        container: Option<Arc<Container>>,
        monotonic_ns: u64,
        grade: Grade,
        source: Backend,
        body: Body,
    ) {
        let realtime_ns = monotonic_ns + self.realtime_offset_ns;
        self.events.push(Event { monotonic_ns, realtime_ns, grade, source, container, body });
    }
}

/// The built-in patterns and those of the settings; one that is none costs the others nothing.
fn redactor(settings: &Settings) -> Arc<Redactor> {
    let (redactor, refused) = Redactor::of_valid(&settings.redact);
    for error in refused {
        tracing::warn!(error = crate::model::chain(&error), "a pattern is not taken");
    }
    Arc::new(redactor)
}
