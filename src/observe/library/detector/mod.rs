//! Observes any process tree or cgroup of the host, without containerd.

mod receivers;

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use self::receivers::Senders;
pub use self::receivers::{DoneEvent, ExecSeen, ForkSeen, ProcessEvent, Receivers};
use crate::{
    clock::realtime_offset_ns,
    model::{Body, ProcessKey},
    observe::{
        node::{self, Open},
        pipeline::{Inbox, Pipeline},
        record::TargetId,
        source::{Source, SourceError, Target},
        track::Emission,
    },
    platform::cgroup,
};

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
    /// The thread of a [`Detector`] could not be made.
    #[error("failed to start the thread that observes processes")]
    Start(#[source] io::Error),
}

/// Observes process trees and cgroups: each fork, exec and exit in them. Dropping it closes it.
///
/// It has one thread, which sleeps while nothing happens. Its receivers are bounded and it never
/// waits for one: the events that a full receiver misses are counted and reported on
/// [`Receivers::errors`]. Arguments are not redacted.
///
/// ```
/// use std::process::Command;
/// use lookout::observe::{Detector, Flags, source::Target};
///
/// let (detector, events) = Detector::new()?;
/// let own_pid = std::process::id().cast_signed();
/// detector.watch(Target::Tree { pid: own_pid }, Flags::ALL)?;
///
/// let mut child = Command::new("sleep").arg("2").spawn()?;
/// let pid = child.id().cast_signed();
/// for event in &events.processes {
///     let Some(args) = &event.process.image.args else { continue };
///     println!("{pid}: {args} ({:?})", event.process.image.executable);
///     if event.process.key.pid == pid && args.to_string() == "sleep 2" {
///         break;
///     }
/// }
/// child.wait()?;
/// detector.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// A detector over the best source that works here: eBPF, which misses nothing (as root, on
    /// Linux 6.1 or later), otherwise polling `/proc`, which misses what lives only between two
    /// scans. [`ProcessEvent::grade`] shows which one it is. The first process of a node that needs
    /// the eBPF programs loads and pins them.
    ///
    /// The proc connector is not used, because it needs a helper process, which only a shim starts.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Source`] if no source works on this system, and those of
    /// [`over`](Self::over).
    pub fn new() -> Result<(Self, Receivers), DetectorError> {
        let mut sources = node::SOURCES.iter();
        let source = first_of(&mut sources).unwrap_or_else(|| {
            Err(SourceError::Missing { what: "a source of process events on this system" })
        })?;
        Self::start(source, sources.as_slice())
    }

    /// A detector over a source, with a thread of its own. With [`MockSource`], tests need no real
    /// processes:
    ///
    /// ```
    /// use std::time::Duration;
    /// use lookout::observe::{Detector, Flags, source::{Target, mock::MockSource}};
    ///
    /// let (source, script) = MockSource::new()?;
    /// let (detector, events) = Detector::over(Box::new(source))?;
    /// detector.watch(Target::Tree { pid: 100 }, Flags::ALL)?;
    /// script.fork(100, 101);
    /// script.exec(101, &["sleep", "1"]);
    /// script.exit(101, 0x500); // a wait status
    ///
    /// let second = Duration::from_secs(1);
    /// let fork = events.processes.recv_timeout(second)?;
    /// assert_eq!((fork.process.key.pid, fork.exec), (101, None));
    /// let exec = events.processes.recv_timeout(second)?;
    /// assert!(exec.fork.is_some() && exec.exec.is_some());
    /// assert_eq!(events.exits.recv_timeout(second)?.status(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`MockSource`]: crate::observe::source::mock::MockSource
    ///
    /// # Errors
    ///
    /// [`DetectorError::Start`] if the thread or its descriptors could not be made.
    pub fn over(source: Box<dyn Source>) -> Result<(Self, Receivers), DetectorError> {
        Self::start(source, &[])
    }

    /// `others` are the sources that are tried if `source` does not support a target.
    fn start(
        source: Box<dyn Source>,
        others: &'static [Open],
    ) -> Result<(Self, Receivers), DetectorError> {
        let inbox = Arc::new(Inbox::new().map_err(DetectorError::Start)?);
        let pid = std::process::id().cast_signed();
        let pipeline = Pipeline::new(source, pid).map_err(DetectorError::Start)?;
        let (senders, receivers) = Senders::new();
        let commands = inbox.clone();
        let mut watcher = Watcher { pipeline, others, commands, targets: HashMap::new(), senders };
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

/// Opens the first source that works, and leaves the later ones in `sources`. Returns the error of
/// the last one if none works, and `None` if there is none.
fn first_of(
    sources: &mut std::slice::Iter<'_, Open>,
) -> Option<Result<Box<dyn Source>, SourceError>> {
    let mut result = None;
    for open in sources {
        let opened = open();
        let works = opened.is_ok();
        result = Some(opened);
        if works {
            break;
        }
    }
    result
}

struct Watcher {
    pipeline: Pipeline,
    /// The sources that can replace the pipeline's, best first.
    others: &'static [Open],
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
            let mut collected = true;
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
                collected &= !busy && !more;
                self.pipeline.report_reaped();
                self.pipeline.run_due_scans();
                self.deliver();
                if !busy && !more && collected {
                    break;
                }
                collected = !more && self.pipeline.wait_to_collect(self.commands.waker());
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
        let watch =
            |pipeline: &mut Pipeline| pipeline.watch(id, target.clone(), None, None, usize::MAX);
        let mut watched = watch(&mut self.pipeline);
        // The best source may not support such a target: eBPF programs cannot watch a tree from
        // within a pid namespace. The source is replaced only while nothing is observed with it.
        while self.targets.is_empty() && watched.as_ref().is_err_and(is_unsupported) {
            let mut others = self.others.iter();
            let Some(Ok(source)) = first_of(&mut others) else { break };
            self.others = others.as_slice();
            let pid = std::process::id().cast_signed();
            self.pipeline = Pipeline::new(source, pid).map_err(DetectorError::Start)?;
            watched = watch(&mut self.pipeline);
        }
        watched?;
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

fn is_unsupported(error: &SourceError) -> bool {
    let SourceError::Target { source, .. } = error else { return false };
    source.kind() == io::ErrorKind::Unsupported
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

#[cfg(test)]
mod tests;
