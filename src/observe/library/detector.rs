//! The library's own watcher: any process tree or cgroup of the host, without containerd.
//!
//! ```
//! use std::time::Duration;
//! use lookout::{model::ProcessKey, observe::{Detector, Flags, source::{Target, mock::MockSource}}};
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
//! One thread, which is the source's; it sleeps while nothing happens. The receivers are bounded:
//! when one is full, what it would have got is counted and told on [`Receivers::errors`], and
//! nobody waits.

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

/// How many events wait in one receiver; the next one is lost to it and counted.
const WAITING: usize = 1024;

/// Which events of a target are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// A process was made.
    pub fork: bool,
    /// A process runs a new image.
    pub exec: bool,
    /// A process ended, and is done.
    pub exit: bool,
}

impl Flags {
    /// Everything.
    pub const ALL: Self = Self { fork: true, exec: true, exit: true };
}

/// A process was made, or runs a new image, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessEvent {
    /// The fork that made it, where it was seen: told with each of its execs, too.
    pub fork: Option<ForkSeen>,
    /// The exec; `None` at the fork itself.
    pub exec: Option<ExecSeen>,
    /// The process with its image, its parent and where it came from.
    pub process: Arc<Process>,
    /// How far it can be trusted.
    pub grade: Grade,
}

/// A fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkSeen {
    /// Attribution child it is; 0 where nobody knows.
    pub parent_pid: i32,
    /// The child.
    pub child: ProcessKey,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// An exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecSeen {
    /// Attribution.
    pub pid: i32,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// A process is dead and reaped, and no descendant holds its output.
#[derive(Debug, Clone, PartialEq)]
pub struct DoneEvent {
    /// Which.
    pub process: Arc<Process>,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// How long after its exit.
    pub after_exit: Duration,
}

/// Where events come out. Dropping one loses its events and nothing else.
#[derive(Debug)]
pub struct Receivers {
    /// Forks and execs.
    pub processes: mpsc::Receiver<ProcessEvent>,
    /// Processes that are done.
    pub done: mpsc::Receiver<DoneEvent>,
    /// Exits as go-runc tells them. A process whose end was only noticed by its absence is not
    /// among them: nobody knows its status.
    pub exits: mpsc::Receiver<Exit>,
    /// Everything that went wrong.
    pub errors: mpsc::Receiver<DetectorError>,
}

/// What a detector could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// The detector was closed, or its source has ended.
    #[error("the detector is closed")]
    Closed,
    /// The source refused, or has ended.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target is watched already.
    #[error("{target} is watched already")]
    Watched {
        /// Which.
        target: String,
    },
    /// The source lost records; `None`: nobody knows how many.
    #[error("{} records were lost", lost.map_or_else(|| "an unknown number of".to_owned(), |lost| lost.to_string()))]
    Lost {
        /// How many.
        lost: Option<u64>,
    },
    /// A receiver was full; so many events were not told on it since the last one that was.
    #[error("the receiver of {what} was full: {missed} events were not told")]
    Full {
        /// Which receiver.
        what: &'static str,
        /// How many.
        missed: u64,
    },
    /// The detector's thread could not be made.
    #[error("failed to start the detector")]
    Start(#[source] std::io::Error),
}

/// Watches processes. Dropped, it is closed.
#[derive(Debug)]
pub struct Detector {
    inbox: Arc<Inbox<Order>>,
}

#[derive(Debug)]
enum Order {
    Watch(Target, Flags, mpsc::SyncSender<Result<(), DetectorError>>),
    Unwatch(Target, mpsc::SyncSender<()>),
    Close,
}

impl Detector {
    /// A detector over a source of its own.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Start`].
    pub fn over(source: Box<dyn Source>) -> Result<(Self, Receivers), DetectorError> {
        let inbox = Arc::new(Inbox::new().map_err(DetectorError::Start)?);
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let pipeline = Pipeline::new(source, pid).map_err(DetectorError::Start)?;
        let (tell, receivers) = Tell::new();
        let orders = inbox.clone();
        let mut watcher = Watcher { pipeline, orders, targets: HashMap::new(), tell, made_up: 0 };
        thread::Builder::new()
            .name("detector".into())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| watcher.run())).is_err() {
                    watcher.tell.error(DetectorError::Closed);
                }
                watcher.orders.close();
            })
            .map_err(DetectorError::Start)?;
        Ok((Self { inbox }, receivers))
    }

    /// Tells from now on what happens to a process and all that descends from it, or in a cgroup
    /// and all below it.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Closed`], [`DetectorError::Watched`], [`DetectorError::Source`].
    pub fn watch(&self, target: Target, flags: Flags) -> Result<(), DetectorError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.inbox.put(Order::Watch(target, flags, reply)).map_err(|_| DetectorError::Closed)?;
        answer.recv().map_err(|_| DetectorError::Closed)?
    }

    /// Ends it; a target that is not watched is no error.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Closed`].
    pub fn unwatch(&self, target: Target) -> Result<(), DetectorError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.inbox.put(Order::Unwatch(target, reply)).map_err(|_| DetectorError::Closed)?;
        answer.recv().map_err(|_| DetectorError::Closed)
    }

    /// Ends everything. The receivers give what was told before, and then that nothing more comes.
    /// Again is as good as once.
    pub fn close(&self) {
        drop(self.inbox.put(Order::Close));
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        self.close();
    }
}

struct Watcher {
    pipeline: Pipeline,
    orders: Arc<Inbox<Order>>,
    targets: HashMap<TargetId, Watched>,
    tell: Tell,
    /// How many targets were no cgroup.
    made_up: u64,
}

struct Watched {
    target: Target,
    flags: Flags,
    /// Forks of the living, to be told with their execs.
    forks: HashMap<ProcessKey, ForkSeen>,
}

impl Watcher {
    fn run(&mut self) {
        loop {
            self.pipeline.wait(self.orders.waker());
            // Whether finding nothing means that there is nothing.
            let mut rested = true;
            loop {
                for order in self.orders.take() {
                    if self.obey(order).is_break() {
                        return;
                    }
                }
                let more = match self.pipeline.read() {
                    Ok(more) => more,
                    Err(error) => return self.tell.error(error.into()),
                };
                let busy = self.pipeline.track();
                rested &= !busy && !more;
                self.pipeline.ask_reaped();
                self.pipeline.look_again();
                self.pass_on();
                if !busy && !more && rested {
                    break;
                }
                rested = !more && self.pipeline.rest(self.orders.waker());
            }
        }
    }

    fn obey(&mut self, order: Order) -> std::ops::ControlFlow<()> {
        match order {
            Order::Watch(target, flags, reply) => {
                let _ = reply.send(self.watch(target, flags));
            }
            Order::Unwatch(target, reply) => {
                let ids: Vec<TargetId> = self
                    .targets
                    .iter()
                    .filter(|(_, watched)| watched.target == target)
                    .map(|(id, _)| *id)
                    .collect();
                for id in ids {
                    self.pipeline.end(id);
                    self.pass_on();
                    self.targets.remove(&id);
                }
                let _ = reply.send(());
            }
            Order::Close => return std::ops::ControlFlow::Break(()),
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
            Target::Tree { .. } => {
                self.made_up += 1;
                TargetId::of_this_process(self.made_up)
            }
        };
        self.pipeline.watch(id, target.clone(), None, None, usize::MAX)?;
        self.targets.insert(id, Watched { target, flags, forks: HashMap::new() });
        Ok(())
    }

    /// Hands what the tracker told to the receivers.
    fn pass_on(&mut self) {
        let offset = realtime_offset_ns();
        for Emission { target, at_ns, grade, body, .. } in self.pipeline.take_told() {
            let Some(watched) = target.and_then(|id| self.targets.get_mut(&id)) else {
                if let Body::Gap(gap) = body {
                    self.tell.error(DetectorError::Lost { lost: gap.lost });
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
                    watched.forks.insert(process.key, fork);
                    if flags.fork {
                        self.tell.process(ProcessEvent {
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
                    self.tell.process(ProcessEvent { fork, exec, process, grade });
                }
                Body::Exit { process, ended, .. } => {
                    watched.forks.remove(&process.key);
                    if let Some(ended) = ended.filter(|_| flags.exit) {
                        self.tell.exit(process.key.pid, ended, at_ns + offset);
                    }
                }
                Body::Done { process, after_exit_ns } if flags.exit => {
                    let after_exit = Duration::from_nanos(after_exit_ns);
                    self.tell.done(DoneEvent { process, monotonic_ns: at_ns, after_exit });
                }
                Body::Gap(gap) => self.tell.error(DetectorError::Lost { lost: gap.lost }),
                _ => {}
            }
        }
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Cgroup { path, .. } => path.display().to_string(),
        Target::Tree { pid } => format!("process {pid}"),
    }
}

/// The sending ends.
struct Tell {
    processes: Outlet<ProcessEvent>,
    done: Outlet<DoneEvent>,
    exits: Outlet<Exit>,
    errors: mpsc::SyncSender<DetectorError>,
}

/// One of them, with what it could not take.
struct Outlet<T> {
    sender: mpsc::SyncSender<T>,
    missed: u64,
}

impl Tell {
    fn new() -> (Self, Receivers) {
        let (processes, from_processes) = Outlet::new();
        let (done, from_done) = Outlet::new();
        let (exits, from_exits) = Outlet::new();
        // A full one loses the newest error; a reader that far behind has enough of them.
        let (errors, from_errors) = mpsc::sync_channel(WAITING);
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

impl<T> Outlet<T> {
    fn new() -> (Self, mpsc::Receiver<T>) {
        // See WAITING.
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        (Self { sender, missed: 0 }, receiver)
    }

    /// Sends, or counts. Answers with how many were missed before one that could be sent.
    fn send(&mut self, event: T) -> u64 {
        match self.sender.try_send(event) {
            Ok(()) => std::mem::take(&mut self.missed),
            Err(mpsc::TrySendError::Full(_)) => {
                self.missed += 1;
                0
            }
            // Nobody wants them.
            Err(mpsc::TrySendError::Disconnected(_)) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
