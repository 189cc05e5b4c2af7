//! A source that reports scripted records. It serves tests of code that consumes records, and needs
//! no kernel support, no privileges and no processes.
//!
//! ```
//! use lookout::observe::{
//!     record::{Record, TargetId, What},
//!     source::{Source, Target, mock::MockSource},
//! };
//!
//! let (mut source, script) = MockSource::new().expect("a descriptor");
//! source.watch(TargetId(1), &Target::Tree { pid: 100 }).expect("the script refuses nothing");
//!
//! script.fork(100, 101);
//! script.exec(101, &["sleep", "1"]);
//! script.exit(101, 0x0500); // a wait status: exit code 5
//! script.lose(3);
//!
//! // The descriptor is readable now, like the descriptor of a real source.
//! let mut records = Vec::new();
//! while source.read(16, &mut |record| records.push(record)).expect("the script does not fail") {}
//! assert_eq!(records.len(), 4);
//! assert!(matches!(&records[1], Record::Process { what: What::Exec { image, .. }, .. }
//!     if image.args.as_ref().is_some_and(|args| args.iter().eq([&b"sleep"[..], b"1"]))));
//! assert!(matches!(records[3], Record::Lost { count: Some(3), .. }));
//! ```

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{KernelCounts, Source, SourceError, Target};
use crate::{
    clock::monotonic_ns,
    model::{Args, Backend, Grade, Image, Lineage, ProcessKey, Stage, Text},
    observe::record::{Record, TargetId, What},
    platform::Waker,
};

/// How many steps a script can be ahead of its reader. Further steps are dropped and reported as
/// lost.
const STEPS_LIMIT: usize = 65_536;

/// Reports the records that its [`MockHandle`] scripts.
#[derive(Debug)]
pub struct MockSource {
    script: MockHandle,
    /// The living processes by pid.
    processes: HashMap<i32, ScriptedProcess>,
    targets: Vec<TargetId>,
    /// The start of the newest process, in clock ticks. It grows with each process, so that a
    /// reused pid gets a new identity.
    ticks: u64,
}

/// Writes the script of a [`MockSource`], from any thread. Clones share the script.
#[derive(Debug, Clone)]
pub struct MockHandle {
    shared: Arc<Mutex<Script>>,
    wake: Arc<Waker>,
}

/// The part of the script that the source has not read.
#[derive(Debug, Default)]
struct Script {
    /// The steps that the source has not yet read, each with the time at which it was scripted
    /// (`CLOCK_MONOTONIC`, nanoseconds).
    steps: VecDeque<(u64, ScriptStep)>,
    /// Steps beyond [`STEPS_LIMIT`] that are not yet reported as lost.
    overrun: u64,
    /// The error that the next `watch` returns.
    refusal: Option<SourceError>,
}

/// One step of a script, which becomes one record or error.
#[derive(Debug)]
enum ScriptStep {
    Fork { parent: i32, child: i32 },
    Exec { pid: i32, args: Args },
    Exit { pid: i32, wait_status: u32 },
    Lose(u64),
    Fail(SourceError),
}

/// A process of the script.
#[derive(Debug, Clone, Copy)]
struct ScriptedProcess {
    key: ProcessKey,
    parent: Option<ProcessKey>,
    grandparent: Option<i32>,
    target: TargetId,
}

impl MockSource {
    /// Creates a source with an empty script, and the handle that writes the script.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE` if the descriptor of the source cannot be created.
    pub fn new() -> std::io::Result<(Self, MockHandle)> {
        let script = MockHandle { shared: Arc::default(), wake: Arc::new(Waker::new()?) };
        let source = Self {
            script: script.clone(),
            processes: HashMap::new(),
            targets: Vec::new(),
            ticks: 1000,
        };
        Ok((source, script))
    }

    fn add_process(
        &mut self,
        pid: i32,
        parent: Option<ProcessKey>,
        grandparent: Option<i32>,
        target: TargetId,
    ) -> ScriptedProcess {
        self.ticks += 1;
        let key = ProcessKey::new(pid, self.ticks);
        let process = ScriptedProcess { key, parent, grandparent, target };
        self.processes.insert(pid, process);
        process
    }

    /// The process with this pid. An unknown process is added to the target that was watched last,
    /// with an unknown parent. `None` if there is no target.
    fn process(&mut self, pid: i32) -> Option<ScriptedProcess> {
        if let Some(known) = self.processes.get(&pid) {
            return Some(*known);
        }
        let target = *self.targets.last()?;
        Some(self.add_process(pid, None, None, target))
    }

    /// The record of a step; `None` if the step concerns no target.
    fn record(&mut self, at_ns: u64, step: ScriptStep) -> Result<Option<Record>, SourceError> {
        let (process, what) = match step {
            ScriptStep::Fork { parent, child } => {
                let Some(parent) = self.process(parent) else { return Ok(None) };
                let process = self.add_process(
                    child,
                    Some(parent.key),
                    parent.parent.map(|key| key.pid),
                    parent.target,
                );
                (process, What::Fork(process.lineage()))
            }
            ScriptStep::Exec { pid, args } => {
                let Some(process) = self.process(pid) else { return Ok(None) };
                let executable = args.iter().next().map(Text::from);
                let image = Arc::new(Image { executable, args: Some(args), ..Image::default() });
                (
                    process,
                    What::Exec {
                        lineage: process.lineage(),
                        image,
                        cgroup: None,
                        in_host_mounts: Some(false),
                    },
                )
            }
            ScriptStep::Exit { pid, wait_status } => {
                let Some(process) = self.process(pid) else { return Ok(None) };
                // A later step with this pid concerns another process, as after a real pid reuse.
                self.processes.remove(&pid);
                (
                    process,
                    What::Exit {
                        wait_status: Some(wait_status),
                        oom_killed: false,
                        outputs: [None, None],
                    },
                )
            }
            ScriptStep::Lose(count) => {
                return Ok(Some(Record::Lost {
                    target: None,
                    at_ns,
                    count: Some(count),
                    stage: Stage::Kernel,
                }));
            }
            ScriptStep::Fail(error) => return Err(error),
        };
        let ScriptedProcess { target, key, .. } = process;
        Ok(Some(Record::Process {
            target,
            at_ns,
            grade: Grade::Exact,
            key,
            provenance: None,
            what,
        }))
    }
}

impl ScriptedProcess {
    fn lineage(&self) -> Lineage {
        Lineage { vpid: None, parent: self.parent, grandparent_pid: self.grandparent }
    }
}

impl MockHandle {
    /// `parent` forks `child`, which belongs to the target of `parent`. An unknown parent belongs
    /// to the target that was watched last. Each process gets a start that no other process has,
    /// even if its pid was used before.
    pub fn fork(&self, parent: i32, child: i32) {
        self.step(ScriptStep::Fork { parent, child });
    }

    /// A process executes `args`; the first argument is also the executable. A process without a
    /// scripted fork counts as one that entered the target from outside.
    pub fn exec(&self, pid: i32, args: &[impl AsRef<[u8]>]) {
        let bytes: Vec<u8> =
            args.iter().flat_map(|arg| arg.as_ref().iter().copied().chain([0])).collect();
        self.step(ScriptStep::Exec { pid, args: Args::from_nul_separated(&bytes) });
    }

    /// A process exits with the wait status of wait(2): an exit code times 256, or the number of a
    /// signal.
    pub fn exit(&self, pid: i32, wait_status: u32) {
        self.step(ScriptStep::Exit { pid, wait_status });
    }

    /// The kernel's buffer loses `count` records.
    pub fn lose(&self, count: u64) {
        self.step(ScriptStep::Lose(count));
    }

    /// The source fails: [`Source::read`] returns `error` once, after the records of the earlier
    /// steps.
    pub fn fail(&self, error: SourceError) {
        self.step(ScriptStep::Fail(error));
    }

    /// The next [`Source::watch`] returns `error`; later calls succeed.
    pub fn refuse_watch(&self, error: SourceError) {
        self.script().refusal = Some(error);
    }

    fn step(&self, step: ScriptStep) {
        let mut script = self.script();
        if script.steps.len() < STEPS_LIMIT {
            script.steps.push_back((monotonic_ns(), step));
        } else {
            script.overrun += 1;
        }
        self.wake();
    }

    fn wake(&self) {
        self.wake.wake();
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        // A poisoned script is still consistent: a writer adds each step with a single push.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for MockSource {
    fn backend(&self) -> Backend {
        Backend::Mock
    }

    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError> {
        if let Some(refusal) = self.script.script().refusal.take() {
            return Err(refusal);
        }
        self.targets.retain(|known| *known != id);
        self.targets.push(id);
        if let Target::Tree { pid } = target {
            self.add_process(*pid, None, None, id);
        }
        // Steps that were scripted before the first watch become readable now.
        self.script.wake();
        Ok(())
    }

    fn unwatch(&mut self, id: TargetId) {
        self.targets.retain(|known| *known != id);
        self.processes.retain(|_, process| process.target != id);
    }

    fn counts(&self, _id: TargetId) -> Option<KernelCounts> {
        None
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.script.wake.as_fd())
    }

    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError> {
        // The waker is cleared before the steps are taken, because a step that is added meanwhile
        // wakes it again.
        self.script.wake.clear();
        for _ in 0..limit {
            let step = {
                let mut script = self.script.script();
                // Without a target, only failures are delivered; a record would have no target.
                let waits = self.targets.is_empty()
                    && !matches!(script.steps.front(), Some((_, ScriptStep::Fail(_))));
                if waits { None } else { script.steps.pop_front() }
            };
            let Some((at_ns, step)) = step else {
                let overrun = std::mem::take(&mut self.script.script().overrun);
                if overrun > 0 {
                    sink(Record::Lost {
                        target: None,
                        at_ns: monotonic_ns(),
                        count: Some(overrun),
                        stage: Stage::Source,
                    });
                }
                return Ok(false);
            };
            if let Some(record) = self.record(at_ns, step)? {
                sink(record);
            }
        }
        let more = !self.script.script().steps.is_empty();
        // The waker was cleared above, so the descriptor must be made readable again.
        if more {
            self.script.wake();
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests;
