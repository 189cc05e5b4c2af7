//! Observes any process tree or cgroup of the host, without containerd.
//!
//! ```
//! use std::time::Duration;
//! use lookout::model::ProcessKey;
//! use lookout::observe::{Detector, Flags, source::{Target, mock::MockSource}};
//!
//! let (source, script) = MockSource::new()?;
//! let (detector, events) = Detector::over(Box::new(source))?;
//! detector.watch(Target::Tree { pid: 100 }, Flags::ALL)?;
//! script.fork(100, 101);
//! script.exec(101, &["sleep", "1"]);
//! script.exit(101, 0x500);
//!
//! let second = Duration::from_secs(1);
//! let fork = events.processes.recv_timeout(second)?;
//! assert_eq!((fork.process.key.pid, fork.exec), (101, None));
//! let exec = events.processes.recv_timeout(second)?;
//! assert!(exec.fork.is_some() && exec.exec.is_some());
//! assert_eq!(events.exits.recv_timeout(second)?.status(), 5);
//! detector.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A detector has one thread, which sleeps while nothing happens. Its receivers are bounded and it
//! never waits for one: the events that a full receiver misses are counted and reported on
//! [`Receivers::errors`].

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    clock::realtime_offset_ns,
    model::{Body, Ended, Exit, Grade, Process, ProcessKey},
    observe::{
        pipeline::{Inbox, Pipeline},
        record::TargetId,
        source::{Source, SourceError, Target},
        track::Emission,
    },
    platform::cgroup,
};

/// The number of events that one receiver holds. Further events are lost and counted.
const QUEUE_CAPACITY: usize = 1024;

/// Which events of a target are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Whether forks are delivered.
    pub fork: bool,
    /// Whether execs are delivered.
    pub exec: bool,
    /// Whether exits are delivered, and done events with them.
    pub exit: bool,
}

impl Flags {
    /// Forks, execs and exits, which are all events.
    pub const ALL: Self = Self { fork: true, exec: true, exit: true };
}

/// A process was forked, or runs a new image.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessEvent {
    /// The fork that made the process. It is also set in the event of each exec of the process.
    /// `None` if the fork was not observed.
    pub fork: Option<ForkSeen>,
    /// The exec; `None` if this is the event of the fork.
    pub exec: Option<ExecSeen>,
    /// The process, with its image, its parent and its origin.
    pub process: Arc<Process>,
    /// How exact the event is.
    pub grade: Grade,
}

/// The facts of one fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkSeen {
    /// The pid of the parent; `None` if it is unknown.
    pub parent_pid: Option<i32>,
    /// The key of the child.
    pub child: ProcessKey,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// The facts of one exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecSeen {
    /// The pid of the process.
    pub pid: i32,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// A process is done: it was reaped, and no surviving process holds its stdout or stderr.
#[derive(Debug, Clone, PartialEq)]
pub struct DoneEvent {
    /// The process that is done.
    pub process: Arc<Process>,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// The time from the exit to done.
    pub after_exit: Duration,
}

/// The receivers of a detector's events. A dropped receiver affects no other.
#[derive(Debug)]
pub struct Receivers {
    /// Forks and execs, of targets with [`Flags::fork`] or [`Flags::exec`].
    pub processes: mpsc::Receiver<ProcessEvent>,
    /// Done events, of targets with [`Flags::exit`].
    pub done: mpsc::Receiver<DoneEvent>,
    /// Exits, with the status as go-runc reports it. The exit of a process that was only found
    /// missing is left out, because its status is unknown.
    pub exits: mpsc::Receiver<Exit>,
    /// Losses and failures. At most 1024 wait; further ones are dropped.
    pub errors: mpsc::Receiver<DetectorError>,
}

/// A failure of a detector or a port watcher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// The detector was closed, or its source has ended.
    #[error("the detector is closed")]
    Closed,
    /// The source refused a target, or has ended.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target is observed already.
    #[error("{target} is observed already")]
    Watched {
        /// The path of the cgroup, or `process PID`.
        target: String,
    },
    /// The source lost records.
    #[error("{} records were lost", count(*lost))]
    Lost {
        /// The number of records; `None` if it is unknown.
        lost: Option<u64>,
    },
    /// A receiver was full.
    #[error("the receiver `{what}` was full: {missed} events were not delivered")]
    Full {
        /// The name of the receiver's field in [`Receivers`].
        what: &'static str,
        /// The number of events that it missed since the last one that it received.
        missed: u64,
    },
    /// The detector's thread could not be made.
    #[error("failed to start the detector")]
    Start(#[source] std::io::Error),
}

/// Observes processes. Dropping it closes it.
#[derive(Debug)]
pub struct Detector {
    inbox: Arc<Inbox<Command>>,
}

#[derive(Debug)]
enum Command {
    Watch(Target, Flags, mpsc::SyncSender<Result<(), DetectorError>>),
    Unwatch(Target, mpsc::SyncSender<()>),
    Close,
}

impl Detector {
    /// A detector over a source, with a thread of its own.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Start`] if the thread or its descriptors could not be made.
    pub fn over(source: Box<dyn Source>) -> Result<(Self, Receivers), DetectorError> {
        let inbox = Arc::new(Inbox::new().map_err(DetectorError::Start)?);
        let pid = std::process::id().cast_signed();
        let pipeline = Pipeline::new(source, pid).map_err(DetectorError::Start)?;
        let (senders, receivers) = Senders::new();
        let commands = inbox.clone();
        let mut watcher = Watcher { pipeline, commands, targets: HashMap::new(), senders };
        thread::Builder::new()
            .name("detector".into())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| watcher.run())).is_err() {
                    watcher.senders.error(DetectorError::Closed);
                }
                // Callers that wait for an answer fail with `Closed` then.
                watcher.commands.close();
            })
            .map_err(DetectorError::Start)?;
        Ok((Self { inbox }, receivers))
    }

    /// Observes a target from now on: a process with all its descendants, or a cgroup with all
    /// cgroups below it.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Closed`], [`DetectorError::Watched`], or [`DetectorError::Source`] if the
    /// source refused the target.
    pub fn watch(&self, target: Target, flags: Flags) -> Result<(), DetectorError> {
        // With a capacity of 1, the thread never blocks on its reply.
        let (reply, answer) = mpsc::sync_channel(1);
        self.inbox.put(Command::Watch(target, flags, reply)).map_err(|_| DetectorError::Closed)?;
        answer.recv().map_err(|_| DetectorError::Closed)?
    }

    /// Stops observing a target. Does nothing if it is not observed.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Closed`].
    pub fn unwatch(&self, target: Target) -> Result<(), DetectorError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.inbox.put(Command::Unwatch(target, reply)).map_err(|_| DetectorError::Closed)?;
        answer.recv().map_err(|_| DetectorError::Closed)
    }

    /// Closes the detector. The receivers still return the events from before and are then
    /// disconnected. Closing twice has no effect.
    pub fn close(&self) {
        // The message is refused if the thread has ended already, which is the wanted state.
        drop(self.inbox.put(Command::Close));
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        self.close();
    }
}

struct Watcher {
    pipeline: Pipeline,
    commands: Arc<Inbox<Command>>,
    targets: HashMap<TargetId, Watched>,
    senders: Senders,
}

struct Watched {
    target: Target,
    flags: Flags,
    /// The forks of the living processes, for their execs.
    forks: HashMap<ProcessKey, ForkSeen>,
}

impl Watcher {
    fn run(&mut self) {
        loop {
            self.pipeline.wait(self.commands.waker());
            // Whether an iteration that finds nothing proves that nothing is left: only after a
            // wait, or a whole rest.
            let mut rested = true;
            loop {
                for command in self.commands.take() {
                    if self.handle(command).is_break() {
                        return;
                    }
                }
                let more = match self.pipeline.read() {
                    Ok(more) => more,
                    Err(error) => return self.senders.error(error.into()),
                };
                let busy = self.pipeline.track();
                rested &= !busy && !more;
                self.pipeline.report_reaped();
                self.pipeline.run_due_scans();
                self.deliver();
                if !busy && !more && rested {
                    break;
                }
                rested = !more && self.pipeline.rest(self.commands.waker());
            }
        }
    }

    fn handle(&mut self, command: Command) -> std::ops::ControlFlow<()> {
        match command {
            Command::Watch(target, flags, reply) => {
                let _ = reply.send(self.watch(target, flags));
            }
            Command::Unwatch(target, reply) => {
                let ids: Vec<TargetId> = self
                    .targets
                    .iter()
                    .filter(|(_, watched)| watched.target == target)
                    .map(|(id, _)| *id)
                    .collect();
                for id in ids {
                    self.pipeline.end(id);
                    // The events are delivered before the target is removed, because they need its
                    // flags.
                    self.deliver();
                    self.targets.remove(&id);
                }
                let _ = reply.send(());
            }
            Command::Close => return std::ops::ControlFlow::Break(()),
        }
        std::ops::ControlFlow::Continue(())
    }

    fn watch(&mut self, target: Target, flags: Flags) -> Result<(), DetectorError> {
        if self.targets.values().any(|watched| watched.target == target) {
            return Err(DetectorError::Watched { target: name(&target) });
        }
        let id = match &target {
            Target::Cgroup { path, .. } => cgroup::id(path).map(TargetId).map_err(|source| {
                SourceError::Target { target: path.display().to_string(), source }
            })?,
            // A tree has no cgroup, so its id is one that no cgroup can have.
            Target::Tree { .. } => TargetId::unique(),
        };
        // The arguments are neither redacted nor cut: the caller receives them as they are.
        self.pipeline.watch(id, target.clone(), None, None, usize::MAX)?;
        self.targets.insert(id, Watched { target, flags, forks: HashMap::new() });
        Ok(())
    }

    /// Sends the pipeline's emissions to the receivers.
    fn deliver(&mut self) {
        let offset = realtime_offset_ns();
        for Emission { target, at_ns, grade, body, .. } in self.pipeline.take_emissions() {
            let Some(watched) = target.and_then(|id| self.targets.get_mut(&id)) else {
                // The event concerns the whole source. Of such events only losses are delivered to
                // a caller.
                if let Body::Gap(gap) = body {
                    self.senders.error(DetectorError::Lost { lost: gap.lost });
                }
                continue;
            };
            let flags = watched.flags;
            match body {
                Body::Fork(process) => {
                    let fork = ForkSeen {
                        parent_pid: process.parent_pid,
                        child: process.key,
                        monotonic_ns: at_ns,
                    };
                    // The fork is kept even if forks are not delivered, because each exec event
                    // contains it.
                    watched.forks.insert(process.key, fork);
                    if flags.fork {
                        self.senders.process(ProcessEvent {
                            fork: Some(fork),
                            exec: None,
                            process,
                            grade,
                        });
                    }
                }
                Body::Start(process) | Body::Exec(process) if flags.exec => {
                    let fork = watched.forks.get(&process.key).copied();
                    let exec = Some(ExecSeen { pid: process.key.pid, monotonic_ns: at_ns });
                    self.senders.process(ProcessEvent { fork, exec, process, grade });
                }
                Body::Exit { process, ended, .. } => {
                    watched.forks.remove(&process.key);
                    // A process that was only found missing has no status that could be delivered.
                    if let Some(ended) = ended.filter(|_| flags.exit) {
                        self.senders.exit(process.key.pid, ended, at_ns + offset);
                    }
                }
                Body::Done { process, after_exit_ns } if flags.exit => {
                    let after_exit = Duration::from_nanos(after_exit_ns);
                    self.senders.done(DoneEvent { process, monotonic_ns: at_ns, after_exit });
                }
                Body::Gap(gap) => self.senders.error(DetectorError::Lost { lost: gap.lost }),
                _ => {}
            }
        }
    }
}

fn count(lost: Option<u64>) -> String {
    lost.map_or_else(|| "an unknown number of".to_owned(), |lost| lost.to_string())
}

fn name(target: &Target) -> String {
    match target {
        Target::Cgroup { path, .. } => path.display().to_string(),
        Target::Tree { pid } => format!("process {pid}"),
    }
}

/// The sending sides of [`Receivers`].
struct Senders {
    processes: CountingSender<ProcessEvent>,
    done: CountingSender<DoneEvent>,
    exits: CountingSender<Exit>,
    errors: mpsc::SyncSender<DetectorError>,
}

/// A sender that counts the events which its full receiver misses.
struct CountingSender<T> {
    sender: mpsc::SyncSender<T>,
    missed: u64,
}

impl Senders {
    fn new() -> (Self, Receivers) {
        let (processes, from_processes) = CountingSender::new();
        let (done, from_done) = CountingSender::new();
        let (exits, from_exits) = CountingSender::new();
        // Errors that do not fit are not counted: a caller with 1024 unread errors knows enough.
        let (errors, from_errors) = mpsc::sync_channel(QUEUE_CAPACITY);
        let receivers = Receivers {
            processes: from_processes,
            done: from_done,
            exits: from_exits,
            errors: from_errors,
        };
        (Self { processes, done, exits, errors }, receivers)
    }

    fn process(&mut self, event: ProcessEvent) {
        let lost = self.processes.send(event);
        self.full("processes", lost);
    }

    fn done(&mut self, event: DoneEvent) {
        let lost = self.done.send(event);
        self.full("done", lost);
    }

    fn exit(&mut self, pid: i32, ended: Ended, realtime_ns: u64) {
        let timestamp = SystemTime::UNIX_EPOCH + Duration::from_nanos(realtime_ns);
        let lost = self.exits.send(Exit { timestamp, pid, ended });
        self.full("exits", lost);
    }

    fn full(&self, what: &'static str, missed: u64) {
        if missed > 0 {
            self.error(DetectorError::Full { what, missed });
        }
    }

    fn error(&self, error: DetectorError) {
        let _ = self.errors.try_send(error);
    }
}

impl<T> CountingSender<T> {
    fn new() -> (Self, mpsc::Receiver<T>) {
        // The channel is bounded: `send` counts the events that do not fit.
        let (sender, receiver) = mpsc::sync_channel(QUEUE_CAPACITY);
        (Self { sender, missed: 0 }, receiver)
    }

    /// Sends an event, or counts it as missed if the receiver is full. Returns the number of events
    /// that were missed before this one, if it was sent.
    fn send(&mut self, event: T) -> u64 {
        match self.sender.try_send(event) {
            Ok(()) => std::mem::take(&mut self.missed),
            Err(mpsc::TrySendError::Full(_)) => {
                self.missed += 1;
                0
            }
            // The caller has dropped the receiver, so it is not interested in the count either.
            Err(mpsc::TrySendError::Disconnected(_)) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
