//! The observer thread: reads the source, receives the shim's messages, publishes to the event log.
//!
//! ```text
//!  wait ──► receive ──► read ──► receive ──► track ──► deferred messages ──► publish ─┐
//!   ▲                                                                                 │
//!   └─────── found nothing, or 1 ms for records to collect, 4 ms in a storm ◄─────────┘
//! ```
//!
//! The order of a turn matters. Some messages must be processed before certain records: which
//! child of the shim runs which exec. The shim sends these before it causes the records, so
//! messages are received *after* the read and processed *before* the tracking. Other messages are
//! about the past, such as a reaped exit. The source recorded the exit before it was reaped, so
//! these are deferred until a read that began after their arrival has found the end of the source.
//! `docs/design/0003-the-observers-thread.md` has the reasons.

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
    service::{LiveProcesses, OpenPort},
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

/// The size of the thread's stack, in bytes: enough for path names and one turn of records.
const STACK_BYTES: usize = 256 << 10;

/// Starts the observer thread. It ends with [`Message::Stop`], or when no source works any more.
///
/// # Errors
///
/// The thread could not be made.
pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<()> {
    thread::Builder::new().name("observe".into()).stack_size(STACK_BYTES).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(&shared)));
        let why = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(crate::model::chain(&error)),
            Err(_) => Some("the observer panicked".to_owned()),
        };
        // Dropping the messages drops their reply channels, so no sender waits for an answer.
        drop(shared.inbox.close());
        if let Some(why) = why {
            tracing::error!(why, "containers are no longer observed");
            shared.report_failure(&why);
        }
    })?;
    Ok(())
}

fn run(shared: &Arc<Shared>) -> Result<(), SourceError> {
    crate::sys::process::raise_thread_priority();
    let source = sources::open(shared)?;
    let shim = i32::try_from(std::process::id()).unwrap_or_default();
    let pipeline = Pipeline::new(source, shim).map_err(|source| SourceError::Kernel {
        action: "make the observer's epoll instance",
        source,
    })?;
    let mut observer = Actor {
        shared: shared.clone(),
        pipeline,
        targets: HashMap::new(),
        containers: BTreeMap::new(),
        unobserved: HashMap::new(),
        deferred: VecDeque::new(),
        stop_reply: None,
        emissions: Vec::new(),
        events: Vec::new(),
        rested: true,
        realtime_offset_ns: realtime_offset_ns(),
    };
    // The create of the first container waits for its turn, so the sweep comes after it.
    observer.pipeline.wait(observer.shared.inbox.waker());
    let mut turn = observer.turn()?;
    if observer.pipeline.backend() == Backend::Bpf
        && let Err(error) = node::sweep()
    {
        tracing::warn!(error = crate::model::chain(&error), "failed to sweep after dead shims");
    }
    while observer.rest(turn) {
        turn = observer.turn()?;
    }
    while observer.stop_reply.is_none() {
        observer.pipeline.wait(observer.shared.inbox.waker());
        loop {
            let turn = observer.turn()?;
            if !observer.rest(turn) {
                break;
            }
        }
    }
    let reply = observer.stop_reply.take();
    // Dropping the source frees its slot and its targets. That must happen before the reply, after
    // which the process may end at any time.
    drop(observer);
    if let Some(reply) = reply {
        let _ = reply.send(());
    }
    Ok(())
}

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There was nothing to do.
    Idle,
    /// Everything was processed. More records are likely after a short rest.
    Busy,
    /// The bound of one turn was reached: there are more records now.
    More,
}

struct Actor {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    targets: HashMap<Serial, TargetId>,
    /// Read for each event. With a few containers an ordered map is faster than a hash map.
    containers: BTreeMap<TargetId, Arc<Container>>,
    /// The containers that could not be observed. They get an end event too.
    unobserved: HashMap<Serial, Arc<Container>>,
    /// The messages that wait for a read which began after their arrival, oldest first.
    deferred: VecDeque<Message>,
    /// The reply of [`Message::Stop`]; `None` until it has arrived.
    stop_reply: Option<oneshot::Sender<()>>,
    /// The pipeline's emissions and the events made of them. Both are empty between turns and are
    /// kept for their capacity.
    emissions: Vec<Emission>,
    events: Vec<Event>,
    /// Whether the last rest took its whole time and nothing has been found since. Only then does
    /// an idle turn mean that nothing is left; see
    /// [`Source::rest`](crate::observe::source::Source::rest).
    rested: bool,
    /// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, in nanoseconds. Read once a turn with events.
    realtime_offset_ns: u64,
}

impl Actor {
    /// Lets records collect, unless there are more to read already. Returns whether another turn
    /// follows, which is not so if there was nothing for a whole rest.
    fn rest(&mut self, turn: Turn) -> bool {
        match turn {
            Turn::Idle if self.rested || self.stop_reply.is_some() => return false,
            Turn::More => self.rested = false,
            Turn::Idle | Turn::Busy => self.rested = self.pipeline.rest(self.shared.inbox.waker()),
        }
        true
    }

    /// Runs one turn; see the module for its order.
    ///
    /// # Errors
    ///
    /// The source has ended and no other one works.
    fn turn(&mut self) -> Result<Turn, SourceError> {
        self.receive();
        let more = match self.pipeline.read() {
            Ok(more) => more,
            Err(error) => {
                let source = sources::replace(&self.shared, self.pipeline.backend(), error)?;
                self.pipeline.replace(source);
                true
            }
        };
        // These arrived before the read began. The next `receive` may add messages about records
        // that the read did not find yet; they wait for the next turn.
        let ripe = self.deferred.len();
        self.receive();
        let busy = self.pipeline.track();
        self.rested &= !busy && !more;
        self.pipeline.report_reaped();
        if !more {
            for message in self.deferred.drain(..ripe).collect::<Vec<_>>() {
                self.apply_deferred(message);
            }
        }
        self.pipeline.run_due_scans();
        self.pipeline.report_held_outputs();
        self.pipeline.report_idle();
        self.publish();
        Ok(match (self.stop_reply.is_some(), more, busy || !self.deferred.is_empty()) {
            (true, ..) | (_, false, false) => Turn::Idle,
            (_, true, _) => Turn::More,
            (_, false, true) => Turn::Busy,
        })
    }

    /// Takes the messages, processes the causes of later records, and defers the others.
    fn receive(&mut self) {
        for message in self.shared.inbox.take() {
            if message.is_cause() {
                self.apply_cause(message);
            } else {
                self.deferred.push_back(message);
            }
        }
    }

    fn apply_cause(&mut self, message: Message) {
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
                // A restored container runs already. Init may also run if the create has given up.
                let late = restored || watched.is_closed();
                let pid_namespace =
                    owns_pid_namespace.then(|| process::pid_namespace(init)).flatten();
                let name = container.id.clone();
                let id = self.observe(serial, container, &settings, init, pid_namespace, late);
                if let Some(id) = id {
                    self.pipeline.tracker.runtime_path(id, runtime.as_os_str().as_bytes());
                    self.pipeline.watch_ports(id, init, &name, late);
                    self.pipeline.watch_idle(id, settings.idle_after, input);
                }
                // The create may have given up since the check above.
                if watched.send(()).is_err() && !late {
                    id.into_iter().for_each(|id| self.report_late_start(id));
                }
            }
            Message::RuntimeExec { serial, exec_id, pid } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.runtime_exec(*id, &exec_id, pid);
                    // Now, because the exec may start, exit and be done in the next batch of
                    // records.
                    self.pipeline.tracker.expects_output_end(*id, &exec_id);
                }
            }
            Message::ExecStarted { serial, exec_id, pid } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.exec_started(*id, &exec_id, pid);
                    self.pipeline.exec_started(*id, &exec_id);
                }
            }
            other => self.deferred.push_back(other),
        }
    }

    /// Begins to observe a container. `late` says that its program may run already. Returns `None`
    /// if the container cannot be observed, which is reported.
    fn observe(
        &mut self,
        serial: Serial,
        mut container: Container,
        settings: &Settings,
        init: i32,
        pid_namespace: Option<u32>,
        late: bool,
    ) -> Option<TargetId> {
        let began_ns = monotonic_ns();
        let location = match CgroupLocation::of_process(init) {
            Ok(location) => location,
            Err(error) => {
                tracing::warn!(
                    id = container.id,
                    %error,
                    "failed to find the container's cgroup; it is not observed"
                );
                self.report_unobserved(serial, Arc::new(container), init, began_ns);
                return None;
            }
        };
        container.cgroup = location.path;
        let container = Arc::new(container);
        // Without a cgroup id (cgroup v1) the target gets one with the top bit set, which no id of
        // a cgroup has.
        let target_id = location.id.map_or_else(|| TargetId::of_this_process(serial.0), TargetId);
        let target = Target::Cgroup { path: location.directory, pid_namespace };
        let args_max = usize::try_from(settings.argv_max).unwrap_or(usize::MAX);
        if let Err(error) =
            self.pipeline.watch(target_id, target, Some(init), Some(redactor(settings)), args_max)
        {
            tracing::warn!(
                id = container.id,
                error = crate::model::chain(&error),
                "the source refused the container; it is not observed"
            );
            self.report_unobserved(serial, container, init, began_ns);
            return None;
        }
        self.targets.insert(serial, target_id);
        self.containers.insert(target_id, container);
        self.pipeline.tracker.expects_output_end(target_id, "");
        let init = process::identify(init).unwrap_or(ProcessKey { pid: init, start_ticks: 0 });
        self.pipeline.emit(target_id, began_ns, Body::ContainerStart { init });
        if late {
            self.report_late_start(target_id);
        } else if self.pipeline.backend() != Backend::Bpf {
            // Nothing was missed yet, but these sources do not count what they will lose.
            let gap = Gap { lost: None, stage: Stage::Kernel, from_ns: began_ns, to_ns: began_ns };
            self.pipeline.emit(target_id, began_ns, Body::Gap(gap));
        }
        Some(target_id)
    }

    /// Reports a gap at the beginning of a container that may have run its program before it was
    /// observed, and scans for its living processes.
    fn report_late_start(&mut self, id: TargetId) {
        let now = monotonic_ns();
        self.pipeline.emit(
            id,
            now,
            Body::Gap(Gap { lost: None, stage: Stage::Source, from_ns: now, to_ns: now }),
        );
        self.pipeline.request_scan(id);
    }

    /// Reports a container that cannot be observed: its start and a gap of unknown size. Its end
    /// follows when it is deleted.
    fn report_unobserved(
        &mut self,
        serial: Serial,
        container: Arc<Container>,
        init: i32,
        at_ns: u64,
    ) {
        let init = process::identify(init).unwrap_or(ProcessKey { pid: init, start_ticks: 0 });
        let gap = Gap { lost: None, stage: Stage::Source, from_ns: at_ns, to_ns: at_ns };
        for body in [Body::ContainerStart { init }, Body::Gap(gap)] {
            self.push(Some(container.clone()), at_ns, Grade::Exact, Backend::Shim, body);
        }
        self.shared.event_log.publish(&mut self.events);
        self.unobserved.insert(serial, container);
    }

    fn apply_deferred(&mut self, message: Message) {
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
                let is_selected =
                    |container: &Container| container_id.is_empty() || container.id == container_id;
                let processes =
                    self.pipeline.processes(None).into_iter().filter_map(|(id, process)| {
                        let container =
                            self.containers.get(&id).filter(|container| is_selected(container))?;
                        Some((container.clone(), process))
                    });
                let selected =
                    self.containers.iter().filter(|(_, container)| is_selected(container));
                let living = LiveProcesses {
                    processes: processes.collect(),
                    idle: selected
                        .clone()
                        .filter(|(id, _)| self.pipeline.is_idle(**id))
                        .map(|(_, container)| container.clone())
                        .collect(),
                    seq: self.shared.event_log.seq(),
                };
                let is_known = container_id.is_empty() || selected.count() > 0;
                let _ = reply.send(is_known.then_some(living));
            }
            Message::Ports { container_id, reply } => {
                let is_selected =
                    |container: &Container| container_id.is_empty() || container.id == container_id;
                let selected =
                    self.containers.iter().filter(|(_, container)| is_selected(container));
                let selected: BTreeMap<_, _> =
                    selected.map(|(id, container)| (*id, container.clone())).collect();
                let is_known = container_id.is_empty() || !selected.is_empty();
                let ports = |(id, container): (TargetId, Arc<Container>)| {
                    let [reported, listed] = self.pipeline.ports(id);
                    let reported = reported.into_iter().map(|port| (port, false));
                    let all = reported.chain(listed.into_iter().map(|port| (port, true)));
                    let open = |(port, listed_only)| OpenPort {
                        container: container.clone(),
                        port,
                        listed_only,
                    };
                    all.map(open).collect::<Vec<_>>()
                };
                let open = selected.into_iter().flat_map(ports).collect();
                self.publish();
                let _ = reply.send(is_known.then_some((open, self.shared.event_log.seq())));
            }
            Message::Stop { stopped } => {
                self.publish();
                self.stop_reply = Some(stopped);
            }
            // Processed when they were received.
            Message::Created { .. } | Message::RuntimeExec { .. } | Message::ExecStarted { .. } => {
            }
        }
    }

    /// Publishes everything that the pipeline has emitted.
    fn publish(&mut self) {
        let mut emissions = std::mem::take(&mut self.emissions);
        emissions.extend(self.pipeline.take_emissions());
        if !emissions.is_empty() {
            self.realtime_offset_ns = realtime_offset_ns();
        }
        for Emission { target, at_ns, grade, derived, body } in emissions.drain(..) {
            let container = target.and_then(|id| self.containers.get(&id)).cloned();
            let source = match grade {
                // A scan of /proc, with any backend.
                Grade::Snapshot => Backend::Poll,
                _ if derived => Backend::Shim,
                _ => self.pipeline.backend(),
            };
            self.push(container, at_ns, grade, source, body);
        }
        self.emissions = emissions;
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

/// The built-in patterns and those of the settings. An invalid pattern is logged and left out.
fn redactor(settings: &Settings) -> Arc<Redactor> {
    let (redactor, refused) = Redactor::of_valid(&settings.redact);
    for error in refused {
        tracing::warn!(error = crate::model::chain(&error), "a redaction pattern is ignored");
    }
    Arc::new(redactor)
}
