//! The task that owns a container. Nothing else reads or changes the container's state.
//!
//! Each event is handled synchronously and to its end, so no handler sees a half-changed state and
//! there is no lock. The submodules divide the handlers: [`requests`] of clients, [`execs`],
//! [`ends`] of operations, and [`effects`] of the lifecycle.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, oneshot};

use self::execs::ExecEntry;
use super::{
    command::{Command, CreateRequest, Deleted, Reply},
    operations::{Completion, Operations},
    process::Process,
};
use crate::{
    model::{Ended, Exit, ObservedContainer, ProcessId},
    runc::{Cancel, Runc},
    task::{
        TaskError,
        cgroup::Cgroup,
        lifecycle::{
            Denied,
            container::{self, Effect, Input, State},
        },
        shared::Shared,
    },
};

mod effects;
mod ends;
mod execs;
mod requests;

/// How long a start that is in progress when init exits may still take before it is cancelled. Most
/// end at once, with a result of their own.
const STARTING_GRACE: Duration = Duration::from_secs(2);

/// How many requests may wait for an operation in progress. More are refused.
const MAX_DEFERRED: usize = 256;

/// The exit status that containerd uses if the real one is unknown.
const UNKNOWN_STATUS: Ended = Ended::Code(255);

/// Removes the container from those of the shim, so that its id can be used again. A function and
/// not the supervisor itself, which is above.
pub(crate) type Forget = Box<dyn Fn() + Send>;

/// The state of one container. Only its own task uses it.
struct Container {
    forget: Forget,
    shared: Arc<Shared>,
    request: Arc<CreateRequest>,
    state: State,
    /// Cancels the runtime's create, start or restore.
    cancel: Cancel,
    /// Whether a kill was received during the create.
    killed_while_creating: bool,
    /// The runtime; `None` until the create has ended.
    runc: Option<Arc<Runc>>,
    /// Whether the kernel kills everything in the container when init dies.
    owns_pid_namespace: bool,
    /// The observer's side of the container; `None` if it is not observed.
    watched: Option<Arc<dyn ObservedContainer>>,
    init: Process,
    /// Init's pid in the shim's pid namespace, also after its exit; 0 before there is an init.
    init_pid: i32,
    /// Init's cgroup; `None` before there is an init, or if it was not found.
    cgroup: Option<Cgroup>,
    /// The cgroup's count of OOM kills that were reported or that are older than the container.
    oom_kills_reported: u64,
    /// Whether an OOM event must be published after the start event.
    oom_event_pending: bool,
    /// The execs by their id, from Exec to Delete.
    execs: BTreeMap<String, ExecEntry>,
    /// Whether nothing that init left behind still has to be killed. Init's exit waits for this.
    leftovers_killed: bool,
    operations: Operations,
    /// Requests that wait for an operation in progress, in the order in which they were received.
    deferred: VecDeque<Command>,
    /// Delete requests that were received during the create or during another delete. All get its
    /// result.
    joined_deletes: Vec<Reply<Deleted>>,
    /// A delete of a container that was never started: the runtime's part has ended, and the answer
    /// waits for init's exit.
    reply_after_exit: Option<Reply<Deleted>>,
}

/// An input of the owner's loop.
enum Event {
    Command(Command),
    Completed(Completion),
}

/// Begins the create of a container and returns the container's task. `reply` receives the pid of
/// init (0 for a checkpoint) when the create has ended.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    forget: Forget,
    request: CreateRequest,
    commands: mpsc::Receiver<Command>,
    reply: oneshot::Sender<Result<i32, TaskError>>,
) -> impl Future<Output = ()> + Send {
    let request = Arc::new(request);
    let mut container = Container {
        forget,
        shared,
        state: State::Creating,
        cancel: Cancel::default(),
        killed_while_creating: false,
        runc: None,
        // Not known before the specification is read; until then nothing can be left behind.
        owns_pid_namespace: true,
        watched: None,
        init: Process::new(request.stdio.clone()),
        init_pid: 0,
        cgroup: None,
        oom_kills_reported: 0,
        oom_event_pending: false,
        execs: BTreeMap::new(),
        leftovers_killed: true,
        operations: Operations::default(),
        deferred: VecDeque::new(),
        joined_deletes: Vec::new(),
        reply_after_exit: None,
        request,
    };
    let (shared, request, cancel) =
        (container.shared.clone(), container.request.clone(), container.cancel.clone());
    container.operations.create(shared, request, cancel, reply);
    container.run(commands)
}

impl Container {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let event = tokio::select! {
                // Completions first: a request must see the state after them, never a process that
                // is already reaped as running.
                biased;
                completion = self.operations.next() => Event::Completed(completion),
                command = commands.recv() => match command {
                    Some(command) => Event::Command(command),
                    // The supervisor has dropped the handle, and no request holds a clone.
                    None => return,
                },
            };
            let flow = match event {
                Event::Command(command) => {
                    self.command(command);
                    ControlFlow::Continue(())
                }
                Event::Completed(completion) => self.completed(completion),
            };
            if flow.is_break() {
                return;
            }
            // After every event, since any of them may have ended the operation.
            self.retry_deferred();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::State { process, reply } => answer(reply, self.snapshot(&process)),
            Command::Pid { reply } => answer(reply, Ok(self.init_pid)),
            Command::Wait { process, reply } => self.wait(&process, reply),
            Command::CloseIo { process, reply } => {
                let closed = self.process(&process).map(Process::close_stdin);
                answer(reply, closed);
            }
            Command::ResizePty { process, width, height, reply } => {
                answer(reply, self.resize(&process, width, height))
            }
            Command::Start { process, reply } => match process {
                ProcessId::Init => self.start(reply),
                ProcessId::Exec(exec_id) => self.start_exec(exec_id.to_string(), reply),
            },
            Command::Delete { process, reply } => match process {
                ProcessId::Init => self.delete(reply),
                ProcessId::Exec(exec_id) => self.delete_exec(exec_id.to_string(), reply),
            },
            Command::Kill { process, signal, all, reply } => match process {
                ProcessId::Init => self.kill(signal, all, reply),
                // `all` asks for the container's processes, and is ignored for an exec as by the Go
                // shim.
                ProcessId::Exec(exec_id) => answer(reply, self.kill_exec(&exec_id, signal)),
            },
            Command::Pause { reply } => match self.step(Input::Pause) {
                Ok((_, runc)) => self.operations.pause(runc, self.id(), reply),
                Err(Denied::Busy) => self.defer(Command::Pause { reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Resume { reply } => match self.step(Input::Resume) {
                Ok((_, runc)) => self.operations.resume(runc, self.id(), reply),
                Err(Denied::Busy) => self.defer(Command::Resume { reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Update { resources, reply } => match self.step(Input::Update) {
                Ok((_, runc)) => self.operations.update(runc, self.id(), resources, reply),
                Err(Denied::Busy) => self.defer(Command::Update { resources, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Checkpoint { path, options, reply } => match self.step(Input::Checkpoint) {
                Ok((_, runc)) => self.checkpoint(runc, &path, options, reply),
                Err(Denied::Busy) => self.defer(Command::Checkpoint { path, options, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Exec { request, reply } => match self.step(Input::AddExec) {
                Ok(_) => answer(reply, self.add_exec(request)),
                Err(Denied::Busy) => self.defer(Command::Exec { request, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Pids { reply } => self.pids(reply),
            Command::Stats { reply } => match &self.cgroup {
                Some(cgroup) => self.operations.stats(cgroup.clone(), reply),
                None => answer(reply, Err(TaskError::NoCgroup)),
            },
        }
    }

    /// Makes a step of the lifecycle for a request. Returns the effect, and the runtime to perform
    /// it.
    ///
    /// # Errors
    ///
    /// [`Denied`] if the state does not allow the request, or while there is no runtime.
    fn step(&mut self, input: Input) -> Result<(Effect, Arc<Runc>), Denied> {
        let (state, effect) = container::step(self.state, input)?;
        self.state = state;
        // Only a create in progress has no runtime yet. It allows no request but its own abort,
        // which `kill` and `delete` handle without the runtime.
        self.runc.clone().map(|runc| (effect, runc)).ok_or(Denied::NotCreated)
    }

    /// Keeps a request until the operation in progress has ended.
    fn defer(&mut self, command: Command) {
        if self.deferred.len() < MAX_DEFERRED {
            self.deferred.push_back(command);
        }
        // Otherwise the command is dropped, and its reply with it, so the client gets an error. The
        // bound keeps a hanging runtime from filling the memory with requests.
    }

    /// Retries the deferred requests in order. A request that must wait again goes to the end of
    /// the list. Each is retried once, so the order stays.
    fn retry_deferred(&mut self) {
        if self.deferred.is_empty() || self.state.is_changing() {
            return;
        }
        for _ in 0..self.deferred.len() {
            if let Some(command) = self.deferred.pop_front() {
                self.command(command);
            }
        }
    }

    fn id(&self) -> String {
        self.request.id.clone()
    }

    fn init_not_running(&self) -> TaskError {
        TaskError::InitNotRunning { id: self.id() }
    }

    fn process(&mut self, process: &ProcessId) -> Result<&mut Process, TaskError> {
        match process {
            ProcessId::Init => Ok(&mut self.init),
            ProcessId::Exec(exec_id) => self.exec(exec_id).map(|exec| &mut exec.process),
        }
    }

    fn exec(&mut self, exec_id: &str) -> Result<&mut ExecEntry, TaskError> {
        self.execs
            .get_mut(exec_id)
            .ok_or_else(|| TaskError::NoSuchProcess { exec_id: exec_id.to_owned() })
    }
}

/// An exit for waiters of a process that never ran or that was deleted with its create.
fn unknown_exit(pid: i32) -> Exit {
    Exit { timestamp: SystemTime::now(), pid, ended: UNKNOWN_STATUS }
}

/// Answers a request. A client that has disconnected needs no answer.
fn answer<T>(reply: Reply<T>, result: Result<T, TaskError>) {
    let _ = reply.send(result);
}
