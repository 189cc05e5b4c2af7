//! The one task that owns a container.

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
    operations::{Done, Operations},
    process::Process,
};
use crate::{
    model::{Exit, Watched},
    runc::{Cancel, Runc},
    task::{
        TaskError,
        cgroup::Cgroup,
        lifecycle::{
            Denied,
            container::{self, Effect, Input, State},
        },
        supervisor::{Shared, Supervisor},
    },
};

mod effects;
mod ends;
mod execs;
mod requests;

/// How long a start that is under way when init ends may still take: most end at once, and truly.
const STARTING_GRACE: Duration = Duration::from_secs(2);

/// How many requests wait for an operation under way before more are refused.
const WAITING: usize = 256;

/// What containerd tells for a process whose status nobody knows.
const UNKNOWN_STATUS: u32 = 255;

/// Everything about one container. Only its own task touches it.
struct Container {
    supervisor: Supervisor,
    shared: Arc<Shared>,
    request: Arc<CreateRequest>,
    state: State,
    /// Ends the runtime's create, start or restore.
    cancel: Cancel,
    /// A kill came while the create was under way.
    killed_while_creating: bool,
    /// Set once the runtime is known; before that nothing but the create is allowed.
    runc: Option<Arc<Runc>>,
    owns_pid_namespace: bool,
    watched: Option<Arc<dyn Watched>>,
    init: Process,
    init_pid: i32,
    cgroup: Option<Cgroup>,
    oom_kills_told: u64,
    /// One was seen that is to be told when the start has been.
    oom_untold: bool,
    execs: BTreeMap<String, ExecEntry>,
    /// What init left behind has been killed, or there was nothing.
    leftovers_killed: bool,
    operations: Operations,
    /// Requests that wait for the end of a change of state, in their order.
    waiting: VecDeque<Command>,
    /// Deletes that came while one was under way.
    joined_deletes: Vec<Reply<Deleted>>,
    /// The runtime's delete has ended; init's exit is still to come.
    delete_ended: Option<Reply<Deleted>>,
}

enum Event {
    Command(Command),
    Done(Done),
}

/// Starts a container's task; `reply` gets init's pid when the create has ended.
pub(crate) fn spawn(
    supervisor: Supervisor,
    request: CreateRequest,
    commands: mpsc::Receiver<Command>,
    reply: oneshot::Sender<Result<i32, TaskError>>,
) -> impl Future<Output = ()> + Send {
    let shared = supervisor.shared();
    let request = Arc::new(request);
    let mut container = Container {
        supervisor,
        shared,
        state: State::Creating,
        cancel: Cancel::default(),
        killed_while_creating: false,
        runc: None,
        owns_pid_namespace: true,
        watched: None,
        init: Process::new(request.stdio.clone()),
        init_pid: 0,
        cgroup: None,
        oom_kills_told: 0,
        oom_untold: false,
        execs: BTreeMap::new(),
        leftovers_killed: true,
        operations: Operations::default(),
        waiting: VecDeque::new(),
        joined_deletes: Vec::new(),
        delete_ended: None,
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
                // Ends first: a request sees the state after them.
                biased;
                done = self.operations.next() => Event::Done(done),
                command = commands.recv() => match command {
                    Some(command) => Event::Command(command),
                    None => return,
                },
            };
            let flow = match event {
                Event::Command(command) => {
                    self.command(command);
                    ControlFlow::Continue(())
                }
                Event::Done(done) => self.done(done),
            };
            if flow.is_break() {
                return;
            }
            self.retry_waiting();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::State { exec_id, reply } => answer(reply, self.snapshot(&exec_id)),
            Command::Pid { reply } => answer(reply, Ok(self.init_pid)),
            Command::Wait { exec_id, reply } => self.wait(&exec_id, reply),
            Command::CloseIo { exec_id, reply } => {
                let closed = self.process(&exec_id).map(Process::close_stdin);
                answer(reply, closed);
            }
            Command::ResizePty { exec_id, width, height, reply } => {
                answer(reply, self.resize(&exec_id, width, height))
            }
            Command::Start { exec_id, reply } if exec_id.is_empty() => self.start(reply),
            Command::Start { exec_id, reply } => self.start_exec(exec_id, reply),
            Command::Delete { exec_id, reply } if exec_id.is_empty() => self.delete(reply),
            Command::Delete { exec_id, reply } => self.delete_exec(exec_id, reply),
            Command::Kill { exec_id, signal, all, reply } if exec_id.is_empty() => {
                self.kill(signal, all, reply)
            }
            Command::Kill { exec_id, signal, reply, .. } => {
                answer(reply, self.kill_exec(&exec_id, signal))
            }
            Command::Pause { reply } => match self.ask(Input::Pause) {
                Ok((_, runc)) => self.operations.pause(runc, self.id(), reply),
                Err(Denied::Busy) => self.put_off(Command::Pause { reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Resume { reply } => match self.ask(Input::Resume) {
                Ok((_, runc)) => self.operations.resume(runc, self.id(), reply),
                Err(Denied::Busy) => self.put_off(Command::Resume { reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Update { resources, reply } => match self.ask(Input::Update) {
                Ok((_, runc)) => self.operations.update(runc, self.id(), resources, reply),
                Err(Denied::Busy) => self.put_off(Command::Update { resources, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Checkpoint { path, options, reply } => match self.ask(Input::Checkpoint) {
                Ok((_, runc)) => self.checkpoint(runc, &path, options, reply),
                Err(Denied::Busy) => self.put_off(Command::Checkpoint { path, options, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Exec { request, reply } => match self.ask(Input::AddExec) {
                Ok(_) => answer(reply, self.add_exec(request)),
                Err(Denied::Busy) => self.put_off(Command::Exec { request, reply }),
                Err(denied) => answer(reply, Err(denied.into())),
            },
            Command::Pids { reply } => self.pids(reply),
            Command::Stats { reply } => match &self.cgroup {
                Some(cgroup) => self.operations.stats(cgroup.clone(), reply),
                None => answer(reply, Err(TaskError::NoCgroup)),
            },
        }
    }

    /// Asks the lifecycle, takes its next state, and gives the runtime with the effect.
    fn ask(&mut self, input: Input) -> Result<(Effect, Arc<Runc>), Denied> {
        let (state, effect) = container::step(self.state, input)?;
        self.state = state;
        // Only a create under way has no runtime yet, and all that it allows is to abort it.
        self.runc.clone().map(|runc| (effect, runc)).ok_or(Denied::NotCreated)
    }

    fn put_off(&mut self, command: Command) {
        if self.waiting.len() < WAITING {
            self.waiting.push_back(command);
        }
        // Else the command is dropped, and with it its reply: the client is told that the request
        // was abandoned.
    }

    /// Tries again what waited, in order. What must still wait comes back to the end of the list
    /// one by one, so the order holds.
    fn retry_waiting(&mut self) {
        if self.waiting.is_empty() || self.state.is_changing() {
            return;
        }
        for _ in 0..self.waiting.len() {
            if let Some(command) = self.waiting.pop_front() {
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

    fn process(&mut self, exec_id: &str) -> Result<&mut Process, TaskError> {
        if exec_id.is_empty() {
            Ok(&mut self.init)
        } else {
            self.exec(exec_id).map(|exec| &mut exec.process)
        }
    }

    fn exec(&mut self, exec_id: &str) -> Result<&mut ExecEntry, TaskError> {
        self.execs
            .get_mut(exec_id)
            .ok_or_else(|| TaskError::NoSuchProcess { exec_id: exec_id.to_owned() })
    }
}

fn unknown_exit(pid: i32) -> Exit {
    Exit { timestamp: SystemTime::now(), pid, status: UNKNOWN_STATUS }
}

/// A client that has left needs no answer.
fn answer<T>(reply: Reply<T>, result: Result<T, TaskError>) {
    let _ = reply.send(result);
}
