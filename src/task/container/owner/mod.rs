//! The async task that owns a container. No other code reads or changes the container's state.
//!
//! Each event is handled synchronously and completely before the next, so no handler sees a
//! half-changed state and no lock is needed. The submodules divide the handlers: [`requests`] of
//! clients, [`execs`], [`ends`] of operations, and [`effects`] of the lifecycle.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use self::execs::ExecEntry;
use super::{
    command::{Command, CreateRequest, Deleted, DeletedTask, Reply},
    completion::Completion,
    delete::UnmountTask,
    operations::Operations,
    process::Process,
};
use crate::{
    model::{ObservedContainer, ProcessId},
    runc::{Cancel, Runc},
    task::{
        TaskError,
        cgroup::Cgroup,
        lifecycle::{
            Denied,
            container::{self, Request, State},
        },
        shared::Shared,
    },
};

mod effects;
mod ends;
mod execs;
mod requests;

/// The time after init's exit in which execs may end before init's exit is reported without theirs,
/// and before a start that is still in progress is cancelled. Most end at once.
const ENDING_GRACE: Duration = Duration::from_secs(2);

/// The largest number of requests that may wait for an operation in progress. Further requests are
/// refused.
const MAX_DEFERRED: usize = 256;

/// Removes the container from the shim's containers, so that its id can be used again. Receives
/// what is to be answered to a repeated delete; `None` if the create failed. It is a function, so
/// that this module does not depend on the supervisor, which depends on it.
pub(crate) type Forget = Box<dyn Fn(Option<DeletedTask>) + Send>;

/// The state of one container. Only the container's own async task uses it.
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
    /// Whether the container owns its pid namespace, so that the kernel kills all its processes
    /// when init dies.
    owns_pid_namespace: bool,
    /// Reports to the observer; `None` if the container is not observed.
    watched: Option<Arc<dyn ObservedContainer>>,
    init: Process,
    /// Init's pid in the shim's pid namespace, also after its exit; `None` before init exists.
    init_pid: Option<i32>,
    /// Init's cgroup; `None` before init exists, or if its cgroup was not found.
    cgroup: Option<Cgroup>,
    /// The number of OOM kills in the cgroup that were already reported or that happened before
    /// this container was created.
    oom_kills_reported: u64,
    /// Whether an OOM event must be published after the start event.
    oom_event_pending: bool,
    /// The execs by their id, from Exec to Delete.
    execs: BTreeMap<String, ExecEntry>,
    /// Whether the processes that init left behind have been killed (or there are none). Init's
    /// exit is reported only after that.
    leftovers_killed: bool,
    /// Whether [`ENDING_GRACE`] has elapsed after init's exit.
    grace_elapsed: bool,
    operations: Operations,
    /// Requests that wait for an operation in progress, in the order in which they were received.
    deferred: VecDeque<Command>,
    /// Delete requests that were received during the create or during another delete. All receive
    /// the result of that operation.
    joined_deletes: Vec<Reply<Deleted>>,
    /// When the first delete began; `None` before.
    delete_began: Option<Instant>,
    /// The unmount of the root filesystem that an earlier delete has begun and given up waiting
    /// for.
    unmount: Option<UnmountTask>,
    /// The reply to a delete of a container that was never started, after the runtime's delete has
    /// ended: the answer is sent after init's exit.
    reply_after_exit: Option<Reply<Deleted>>,
}

/// An event that the owner's loop handles.
enum Event {
    Command(Command),
    Completed(Completion),
}

/// Begins the create of a container and returns the container's async task. `reply` receives the
/// pid of init (`None` for a checkpoint) when the create has ended.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    forget: Forget,
    request: CreateRequest,
    commands: mpsc::Receiver<Command>,
    reply: Reply<Option<i32>>,
) -> impl Future<Output = ()> + Send {
    let request = Arc::new(request);
    let mut container = Container {
        forget,
        shared,
        state: State::Creating,
        cancel: Cancel::default(),
        killed_while_creating: false,
        runc: None,
        // It is not known before the specification is read. `true` is right until then, because no
        // process exists that init could leave behind.
        owns_pid_namespace: true,
        watched: None,
        init: Process::new(request.stdio.clone()),
        init_pid: None,
        cgroup: None,
        oom_kills_reported: 0,
        oom_event_pending: false,
        execs: BTreeMap::new(),
        leftovers_killed: true,
        grace_elapsed: false,
        operations: Operations::default(),
        deferred: VecDeque::new(),
        joined_deletes: Vec::new(),
        delete_began: None,
        unmount: None,
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
                // Completions are handled before commands, so that a request never finds a process
                // running that is already reaped.
                biased;
                completion = self.operations.next() => Event::Completed(completion),
                command = commands.recv() => match command {
                    Some(command) => Event::Command(command),
                    // The supervisor has dropped the handle, and no request holds a clone of it.
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
            // This is done after every event, because any event may have ended the operation for
            // which requests wait.
            self.retry_deferred();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::State { process, reply } => answer(reply, self.answer_state(&process)),
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
                // `all` means all processes of the container. For an exec it is ignored, as by the
                // Go shim.
                ProcessId::Exec(exec_id) => answer(reply, self.kill_exec(&exec_id, signal)),
            },
            Command::Pause { reply } => match self.allow(Request::Pause) {
                Ok(runc) => self.operations.pause(runc, self.id(), reply),
                Err(Denied::Busy) => self.defer(Command::Pause { reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Resume { reply } => match self.allow(Request::Resume) {
                Ok(runc) => self.operations.resume(runc, self.id(), reply),
                Err(Denied::Busy) => self.defer(Command::Resume { reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Update { resources, reply } => match self.allow(Request::Update) {
                Ok(runc) => self.operations.update(runc, self.id(), resources, reply),
                Err(Denied::Busy) => self.defer(Command::Update { resources, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Checkpoint { path, options, reply } => match self.allow(Request::Checkpoint) {
                Ok(runc) => self.checkpoint(runc, &path, options, reply),
                Err(Denied::Busy) => self.defer(Command::Checkpoint { path, options, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Exec { request, reply } => match self.allow(Request::AddExec) {
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

    /// Asks the lifecycle whether a request may go ahead, and changes the state if it may. Returns
    /// the runtime, which performs the request.
    ///
    /// # Errors
    ///
    /// [`Denied`] if the state does not allow the request, or if the container has no runtime yet.
    fn allow(&mut self, request: Request) -> Result<Arc<Runc>, Denied> {
        self.state = container::allow(self.state, request)?;
        // Only during the create there is no runtime yet, and the lifecycle allows none of these
        // requests then.
        self.runc.clone().ok_or(Denied::NotCreated)
    }

    /// Keeps a request until the operation in progress has ended.
    fn defer(&mut self, command: Command) {
        // Without the limit, a hanging runtime could fill the memory with requests.
        match self.deferred.len() < MAX_DEFERRED {
            true => self.deferred.push_back(command),
            false => command.refuse(Denied::Busy.into()),
        }
    }

    /// Retries the deferred requests in order. A request that must still wait is appended to the
    /// list again. Each request is retried once, so their order does not change.
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

/// Answers a request. A client that has disconnected needs no answer.
fn answer<T>(reply: Reply<T>, result: Result<T, TaskError>) {
    let _ = reply.send(result);
}
