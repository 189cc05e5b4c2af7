//! The one task that owns a container.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    command::{Command, CreateRequest, Deleted, Reply, Snapshot, Status},
    create::{Made, Running},
    exec::Plan,
    operations::{CheckpointTo, Done, Operations},
    process::Process,
};
use crate::{
    bundle::Bundle,
    model::Exit,
    publish::TaskEvent,
    reaper::Child,
    runc::{Cancel, CheckpointOptions, Runc},
    task::{
        TaskError,
        cgroup::Cgroup,
        io::{Owner as IoOwner, ProcessIo},
        lifecycle::{
            Denied,
            container::{self, Effect, Input, State},
            exec,
        },
        supervisor::{Shared, Supervisor},
        wire,
    },
};

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
    init: Process,
    init_pid: i32,
    cgroup: Option<Cgroup>,
    oom_kills_told: u64,
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

struct ExecEntry {
    state: exec::State,
    process: Process,
    document: Vec<u8>,
    cancel: Cancel,
    joined_deletes: Vec<Reply<Deleted>>,
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
        init: Process::new(request.stdio.clone()),
        init_pid: 0,
        cgroup: None,
        oom_kills_told: 0,
        execs: BTreeMap::new(),
        leftovers_killed: true,
        operations: Operations::default(),
        waiting: VecDeque::new(),
        joined_deletes: Vec::new(),
        delete_ended: None,
        request,
    };
    let (shared, request, cancel) = (container.shared.clone(), container.request.clone(), container.cancel.clone());
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

    // ── requests ──

    fn command(&mut self, command: Command) {
        match command {
            Command::State { exec_id, reply } => answer(reply, self.snapshot(&exec_id)),
            Command::Pid { reply } => answer(reply, Ok(self.init_pid)),
            Command::Wait { exec_id, reply } => self.wait(&exec_id, reply),
            Command::CloseIo { exec_id, reply } => {
                let closed = self.process(&exec_id).map(Process::close_stdin);
                answer(reply, closed);
            }
            Command::ResizePty { exec_id, width, height, reply } => answer(reply, self.resize(&exec_id, width, height)),
            Command::Start { exec_id, reply } if exec_id.is_empty() => self.start(reply),
            Command::Start { exec_id, reply } => self.start_exec(exec_id, reply),
            Command::Delete { exec_id, reply } if exec_id.is_empty() => self.delete(reply),
            Command::Delete { exec_id, reply } => self.delete_exec(exec_id, reply),
            Command::Kill { exec_id, signal, all, reply } if exec_id.is_empty() => self.kill(signal, all, reply),
            Command::Kill { exec_id, signal, reply, .. } => answer(reply, self.kill_exec(&exec_id, signal)),
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

    fn snapshot(&mut self, exec_id: &str) -> Result<Snapshot, TaskError> {
        let frozen = match self.state {
            State::Creating | State::Deleted => return Err(Denied::NotCreated.into()),
            State::Pausing => Some(Status::Pausing),
            State::Paused | State::Resuming => Some(Status::Paused),
            _ => None,
        };
        let bundle = self.request.bundle.clone();
        if exec_id.is_empty() {
            let status = frozen.unwrap_or(match self.state {
                State::Created { .. } | State::Starting { .. } | State::Deleting { exit: None, .. } => Status::Created,
                State::Stopped { .. } | State::Deleting { exit: Some(_), .. } => Status::Stopped,
                _ => Status::Running,
            });
            let stdio = self.init.stdio.clone();
            return Ok(Snapshot { bundle, pid: self.init_pid, status, stdio, exit: self.state.exit() });
        }
        let exec = self.exec(exec_id)?;
        let status = frozen.unwrap_or(match exec.state {
            exec::State::Added | exec::State::Starting | exec::State::Failed | exec::State::Deleting { exit: None } => {
                Status::Created
            }
            exec::State::Running { .. } => Status::Running,
            exec::State::Stopped { .. } | exec::State::Deleting { exit: Some(_) } => Status::Stopped,
        });
        let stdio = exec.process.stdio.clone();
        Ok(Snapshot { bundle, pid: exec.state.pid(), status, stdio, exit: exec.state.exit() })
    }

    fn wait(&mut self, exec_id: &str, reply: Reply<Exit>) {
        if matches!(self.state, State::Creating) {
            return answer(reply, Err(Denied::NotCreated.into()));
        }
        let told = if exec_id.is_empty() { self.state.exit() } else { self.execs.get(exec_id).and_then(ExecEntry::told) };
        match (told, self.process(exec_id)) {
            (Some(exit), _) => answer(reply, Ok(exit)),
            (None, Ok(process)) => process.wait(reply),
            (None, Err(error)) => answer(reply, Err(error)),
        }
    }

    fn resize(&mut self, exec_id: &str, width: u16, height: u16) -> Result<(), TaskError> {
        if let Some(exec) = self.execs.get(exec_id) {
            exec::step(exec.state, exec::Input::Resize)?;
        }
        self.process(exec_id)?.resize(width, height).map_err(TaskError::Resize)
    }

    fn start(&mut self, reply: Reply<i32>) {
        match self.ask(Input::Start) {
            Ok((_, runc)) if self.request.checkpoint.is_empty() => {
                self.init.begin_input();
                self.operations.start(runc, self.id(), self.cancel.clone(), reply);
            }
            Ok((_, runc)) => match self.init.detach() {
                Some(io) => {
                    let (shared, request) = (self.shared.clone(), self.request.clone());
                    self.operations.restore(shared, request, runc, io, self.cancel.clone(), reply);
                }
                // The streams went with a restore that failed; another try has none.
                None => {
                    let _ = self.ask(Input::StartEnded { ok: false });
                    answer(reply, Err(TaskError::Abandoned));
                }
            },
            Err(Denied::Busy) => self.put_off(Command::Start { exec_id: String::new(), reply }),
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    fn kill(&mut self, signal: u32, all: bool, reply: Reply<()>) {
        match container::step(self.state, Input::Kill { all }) {
            Ok((_, Effect::Abort)) => {
                self.killed_while_creating = true;
                self.cancel.cancel();
                answer(reply, Ok(()));
            }
            Ok(_) => match self.runc.clone() {
                Some(runc) => self.operations.kill(runc, self.id(), signal, all, reply),
                None => answer(reply, Err(Denied::NotCreated.into())),
            },
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    fn checkpoint(&mut self, runc: Arc<Runc>, path: &str, options: CheckpointOptions, reply: Reply<()>) {
        let image = if path.is_empty() { &self.request.options.criu_image_path } else { path };
        if image.is_empty() {
            let why = "neither the request nor the runtime options name a folder for the image".into();
            return answer(reply, Err(TaskError::Invalid { what: "checkpoint path", why }));
        }
        let bundle = self.request.bundle.clone();
        let to = CheckpointTo {
            image: PathBuf::from(image),
            work_is_temporary: options.work_path().is_empty(),
            work: match options.work_path() {
                "" => bundle.join("work/criu-work"),
                work => PathBuf::from(work),
            },
        };
        self.operations.checkpoint(runc, self.id(), bundle, to, options, reply);
    }

    fn pids(&mut self, reply: Reply<Vec<super::command::Pid>>) {
        if matches!(self.state, State::Creating | State::Deleted) {
            return answer(reply, Err(Denied::NotCreated.into()));
        }
        let execs = self.execs.iter().filter_map(|(exec_id, exec)| match exec.state {
            exec::State::Running { pid } => Some((u32::try_from(pid).ok()?, exec_id.clone())),
            _ => None,
        });
        let execs = execs.collect();
        self.operations.pids(self.cgroup.clone(), self.init_pid, execs, reply);
    }

    fn delete(&mut self, reply: Reply<Deleted>) {
        if self.state == State::Creating {
            self.cancel.cancel();
            // Answered when the create has been undone.
            return self.joined_deletes.push(reply);
        }
        match self.ask(Input::Delete) {
            Ok((Effect::JoinDelete, _)) => self.joined_deletes.push(reply),
            Ok((_, runc)) => {
                let rootfs = (!self.request.rootfs.is_empty()).then(|| Bundle::new(&self.request.bundle).rootfs());
                let io = self.init.detach();
                self.operations.delete(runc, self.id(), io, rootfs, reply);
            }
            Err(Denied::Busy) => self.put_off(Command::Delete { exec_id: String::new(), reply }),
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    // ── requests about execs ──

    fn add_exec(&mut self, request: super::command::ExecRequest) -> Result<(), TaskError> {
        if self.execs.contains_key(&request.exec_id) {
            return Err(TaskError::ExecExists { exec_id: request.exec_id });
        }
        let entry = ExecEntry {
            state: exec::State::Added,
            process: Process::new(request.stdio),
            document: request.process,
            cancel: Cancel::default(),
            joined_deletes: Vec::new(),
        };
        self.tell(TaskEvent::exec_added(&self.request.id, &request.exec_id));
        self.execs.insert(request.exec_id, entry);
        Ok(())
    }

    fn start_exec(&mut self, exec_id: String, reply: Reply<i32>) {
        let runc = match self.ask(Input::StartExec) {
            Ok((_, runc)) => runc,
            Err(Denied::Busy) => return self.put_off(Command::Start { exec_id, reply }),
            Err(Denied::InitNotRunning) => return answer(reply, Err(self.init_not_running())),
            Err(denied) => return answer(reply, Err(denied.into())),
        };
        let owner = IoOwner { uid: self.request.options.io_uid, gid: self.request.options.io_gid };
        let (container_id, bundle) = (self.id(), self.request.bundle.clone());
        let exec = match self.exec(&exec_id) {
            Ok(exec) => exec,
            Err(error) => return answer(reply, Err(error)),
        };
        match exec::step(exec.state, exec::Input::Start) {
            Ok((state, _)) => exec.state = state,
            Err(denied) => return answer(reply, Err(denied.into())),
        }
        exec.cancel = Cancel::default();
        let cancel = exec.cancel.clone();
        let (stdio, process) = (exec.process.stdio.clone(), exec.document.clone());
        let plan = Plan { container_id, exec_id, bundle, owner, stdio, process };
        self.operations.start_exec(self.shared.clone(), plan, runc, cancel, reply);
    }

    fn kill_exec(&mut self, exec_id: &str, signal: u32) -> Result<(), TaskError> {
        let reaper = self.shared.reaper.clone();
        let exec = self.exec(exec_id)?;
        match exec::step(exec.state, exec::Input::Kill)? {
            (_, exec::Effect::AbortStart) => {
                exec.cancel.cancel();
                Ok(())
            }
            (state, _) => {
                let signal = i32::try_from(signal).map_err(|_| TaskError::KillExec(nix::Error::EINVAL))?;
                reaper.raw_signal(state.pid(), signal).map_err(TaskError::KillExec)
            }
        }
    }

    fn delete_exec(&mut self, exec_id: String, reply: Reply<Deleted>) {
        let exec = match self.exec(&exec_id) {
            Ok(exec) => exec,
            Err(error) => return answer(reply, Err(error)),
        };
        match exec::step(exec.state, exec::Input::Delete) {
            Ok((_, exec::Effect::JoinDelete)) => exec.joined_deletes.push(reply),
            Ok((state, _)) => {
                exec.state = state;
                let io = exec.process.detach();
                self.operations.delete_exec(exec_id, io, reply);
            }
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    // ── ends of operations ──

    fn done(&mut self, done: Done) -> ControlFlow<()> {
        match done {
            Done::Created { reply, result } => return self.created(reply, result),
            Done::Started { reply, result } => self.started(reply, result),
            Done::Restored { reply, result } => self.restored(reply, result),
            Done::Paused { reply, result } => {
                self.apply(Input::PauseEnded { ok: result.is_ok() });
                answer(reply, result);
            }
            Done::Resumed { reply, result } => {
                self.apply(Input::ResumeEnded { ok: result.is_ok() });
                answer(reply, result);
            }
            Done::InitExited { exit, oom_kills } => {
                // What the watch had no time to tell.
                if oom_kills.is_some_and(|kills| kills > self.oom_kills_told) {
                    self.oom_killed(oom_kills.unwrap_or_default());
                }
                self.init.exited();
                self.apply(Input::Exited(exit));
                if matches!(self.state, State::Starting { .. }) {
                    self.operations.grace(STARTING_GRACE);
                }
                if let Some(reply) = self.delete_ended.take() {
                    return self.deleted(reply);
                }
            }
            // Kills of before the exit were counted with it.
            Done::OomKilled { .. } if self.state.init_has_exited() => {}
            Done::OomKilled { watch, kills } => {
                self.oom_killed(kills);
                self.operations.watch_oom(watch);
            }
            Done::LeftoversKilled => self.leftovers_killed = true,
            Done::GraceOver => {
                if matches!(self.state, State::Starting { .. }) {
                    self.cancel.cancel();
                }
                for exec in self.execs.values().filter(|exec| exec.state == exec::State::Starting) {
                    exec.cancel.cancel();
                }
            }
            Done::ExecStarted { exec_id, reply, result } => self.exec_started(exec_id, reply, result),
            Done::ExecExited { exec_id, exit } => self.exec_exited(&exec_id, exit),
            Done::ExecDeleted { exec_id, reply } => self.exec_deleted(&exec_id, reply),
            Done::Deleted { reply, result } => return self.delete_done(reply, result),
            Done::Answered => {}
        }
        self.settle();
        ControlFlow::Continue(())
    }

    fn created(&mut self, reply: Reply<i32>, result: Result<Box<Made>, TaskError>) -> ControlFlow<()> {
        let made = match result {
            Ok(made) => *made,
            Err(error) => {
                tracing::info!(id = self.request.id, %error, "create failed");
                self.supervisor.forget(&self.request.id);
                answer(reply, Err(error));
                // What was to be deleted was undone: nothing of it is left.
                for joined in self.joined_deletes.drain(..) {
                    answer(joined, Ok(Deleted { pid: 0, exit: Some(unknown_exit(0)) }));
                }
                return ControlFlow::Break(());
            }
        };
        self.runc = Some(made.runc);
        self.owns_pid_namespace = made.owns_pid_namespace;
        self.init.attach(made.io);
        self.apply(Input::Created { restore: made.init.is_none() });
        if let Some(running) = made.init {
            self.watch(running);
        }
        tracing::info!(id = self.request.id, pid = self.init_pid, "created");
        self.tell(TaskEvent::create(&wire::task_create(&self.request, self.init_pid)));
        answer(reply, Ok(self.init_pid));
        // A kill or a delete that came too late to abort the create.
        self.cancel = Cancel::default();
        if self.killed_while_creating {
            let (reply, _) = oneshot::channel();
            self.kill(nix::libc::SIGKILL.unsigned_abs(), false, reply);
        }
        for joined in std::mem::take(&mut self.joined_deletes) {
            self.delete(joined);
        }
        ControlFlow::Continue(())
    }

    fn watch(&mut self, running: Running) {
        self.init_pid = running.child.pid;
        self.cgroup = running.cgroup;
        let bundle = Bundle::new(&self.request.bundle);
        self.operations.watch_init(running.child, self.cgroup.clone(), bundle);
        if let Some(oom) = running.oom {
            // A path that was used before starts with the kills of then.
            self.oom_kills_told = oom.told();
            self.operations.watch_oom(oom);
        }
    }

    fn started(&mut self, reply: Reply<i32>, result: Result<(), TaskError>) {
        self.apply(Input::StartEnded { ok: result.is_ok() });
        answer(reply, result.map(|()| self.init_pid));
    }

    fn restored(&mut self, reply: Reply<i32>, result: Result<Box<(ProcessIo, Running)>, Box<(ProcessIo, TaskError)>>) {
        let (io, result) = match result.map(|ok| *ok).map_err(|error| *error) {
            Ok((io, running)) => {
                self.watch(running);
                (io, Ok(()))
            }
            Err((io, error)) => (io, Err(error)),
        };
        self.init.attach(io);
        self.init.begin_input();
        self.started(reply, result);
    }

    fn exec_started(&mut self, exec_id: String, reply: Reply<i32>, result: Result<Box<(ProcessIo, Child)>, TaskError>) {
        let init_has_ended = matches!(self.state, State::Ending { .. });
        let error = self.init_not_running();
        let id = self.id();
        let reaper = self.shared.reaper.clone();
        // Pending execs keep the container from being deleted, and cannot be deleted themselves.
        let Some(exec) = self.execs.get_mut(&exec_id) else { return };
        match result.map(|started| *started) {
            // Nothing in a shared pid namespace would end it (containerd #10589).
            Ok((io, child)) if init_has_ended && !self.owns_pid_namespace => {
                drop(io);
                let _ = reaper.signal(child.pid, nix::sys::signal::Signal::SIGKILL);
                self.operations.fail_exec(child, exec_id, error, reply);
            }
            Ok((io, child)) => {
                let pid = child.pid;
                exec.process.attach(io);
                exec.process.begin_input();
                if let Ok((state, _)) = exec::step(exec.state, exec::Input::Started { pid }) {
                    exec.state = state;
                }
                self.operations.watch_exec(child, exec_id.clone());
                tracing::info!(id, exec_id, pid, "exec started");
                self.tell(TaskEvent::exec_started(&id, &exec_id, pid));
                answer(reply, Ok(pid));
            }
            Err(error) => {
                if let Ok((state, _)) = exec::step(exec.state, exec::Input::StartFailed) {
                    exec.state = state;
                }
                exec.process.tell_exit(unknown_exit(0));
                tracing::info!(id, exec_id, %error, "exec failed to start");
                answer(reply, Err(error));
            }
        }
    }

    fn exec_exited(&mut self, exec_id: &str, exit: Exit) {
        let Some(exec) = self.execs.get_mut(exec_id) else { return };
        exec.process.exited();
        if let Ok((state, exec::Effect::TellExit(exit))) = exec::step(exec.state, exec::Input::Exited(exit)) {
            exec.state = state;
            exec.process.tell_exit(exit);
            tracing::info!(id = self.request.id, exec_id, status = exit.status, "exec exited");
            self.tell(TaskEvent::exit(&self.request.id, exec_id, exit));
        }
    }

    fn exec_deleted(&mut self, exec_id: &str, reply: Reply<Deleted>) {
        let Some(exec) = self.execs.remove(exec_id) else { return };
        let deleted = Deleted { pid: exec.state.pid(), exit: exec.state.exit() };
        for reply in exec.joined_deletes.into_iter().chain([reply]) {
            answer(reply, Ok(deleted));
        }
    }

    fn delete_done(&mut self, reply: Reply<Deleted>, result: Result<(), TaskError>) -> ControlFlow<()> {
        if let Err(error) = result {
            tracing::warn!(id = self.request.id, %error, "failed to delete");
            self.apply(Input::DeleteEnded { ok: false });
            // Those who joined try for themselves.
            for joined in std::mem::take(&mut self.joined_deletes) {
                self.delete(joined);
            }
            answer(reply, Err(error));
            return ControlFlow::Continue(());
        }
        if matches!(self.state, State::Deleting { exit: None, .. }) && self.init_pid > 0 {
            // Deleted before it was started: the runtime has killed init, whose exit comes now. For
            // a runtime that has not, nobody else would.
            let _ = self.shared.reaper.signal(self.init_pid, nix::sys::signal::Signal::SIGKILL);
            self.delete_ended = Some(reply);
            return ControlFlow::Continue(());
        }
        self.deleted(reply)
    }

    fn deleted(&mut self, reply: Reply<Deleted>) -> ControlFlow<()> {
        let deleted = Deleted { pid: self.init_pid, exit: self.state.exit() };
        self.apply(Input::DeleteEnded { ok: true });
        self.supervisor.forget(&self.request.id);
        tracing::info!(id = self.request.id, "deleted");
        self.tell(TaskEvent::delete(&self.request.id, deleted.pid, deleted.exit));
        for reply in self.joined_deletes.drain(..).chain([reply]) {
            answer(reply, Ok(deleted));
        }
        ControlFlow::Break(())
    }

    // ── effects ──

    /// Takes what is no request to the lifecycle and performs what follows.
    fn apply(&mut self, input: Input) {
        // Only requests are refused.
        let Ok((state, effect)) = container::step(self.state, input) else { return };
        self.state = state;
        self.perform(effect);
    }

    fn perform(&mut self, effect: Effect) {
        let id = self.id();
        match effect {
            // The four of requests are acted on where the request is.
            Effect::None | Effect::Proceed | Effect::Abort | Effect::JoinDelete => {}
            Effect::TellStarted => {
                tracing::info!(id, pid = self.init_pid, "started");
                self.tell(TaskEvent::start(&id, self.init_pid));
            }
            Effect::TellStartedThenEnd(exit) => {
                self.perform(Effect::TellStarted);
                self.perform(Effect::End(exit));
            }
            Effect::End(_) => self.end(),
            Effect::ThawThenEnd(_) => {
                self.perform(Effect::Thaw);
                self.end();
            }
            Effect::Thaw => {
                if let Some(runc) = self.runc.clone() {
                    self.operations.thaw(runc, id);
                }
            }
            Effect::TellPaused => self.tell(TaskEvent::paused(&id)),
            Effect::TellResumed => self.tell(TaskEvent::resumed(&id)),
            Effect::TellExit(exit) => {
                tracing::info!(id, pid = exit.pid, status = exit.status, "exited");
                self.init.tell_exit(exit);
                self.tell(TaskEvent::exit(&id, &id, exit));
            }
            // Told by `deleted`, together with the answers.
            Effect::TellDeleted => {}
        }
    }

    /// Init has ended: sees to it that everything else of the container ends too.
    fn end(&mut self) {
        if !self.owns_pid_namespace {
            if let Some(runc) = self.runc.clone() {
                self.leftovers_killed = false;
                self.operations.kill_leftovers(runc, self.id());
            }
        }
        if self.execs.values().any(|exec| exec.state == exec::State::Starting) {
            self.operations.grace(STARTING_GRACE);
        }
    }

    /// Tells init's exit once every exec's has been told.
    fn settle(&mut self) {
        let pending = self.execs.values().any(|exec| exec.state.is_pending());
        if matches!(self.state, State::Ending { .. }) && self.leftovers_killed && !pending {
            self.apply(Input::Settled);
        }
    }

    fn oom_killed(&mut self, kills: u64) {
        self.oom_kills_told = kills;
        tracing::info!(id = self.request.id, kills, "out of memory");
        self.tell(TaskEvent::oom(&self.request.id));
    }

    fn tell(&self, event: TaskEvent) {
        self.shared.publisher.publish(event);
    }

    // ── small words ──

    fn id(&self) -> String {
        self.request.id.clone()
    }

    fn init_not_running(&self) -> TaskError {
        TaskError::InitNotRunning { id: self.id() }
    }

    fn process(&mut self, exec_id: &str) -> Result<&mut Process, TaskError> {
        if exec_id.is_empty() { Ok(&mut self.init) } else { self.exec(exec_id).map(|exec| &mut exec.process) }
    }

    fn exec(&mut self, exec_id: &str) -> Result<&mut ExecEntry, TaskError> {
        self.execs.get_mut(exec_id).ok_or_else(|| TaskError::NoSuchProcess { exec_id: exec_id.to_owned() })
    }
}

impl ExecEntry {
    /// The exit that a wait gets at once. One whose start failed has none; the waiter is told so
    /// by a status that no process leaves unless it means it.
    fn told(&self) -> Option<Exit> {
        match self.state {
            exec::State::Failed => Some(unknown_exit(0)),
            _ => self.state.exit(),
        }
    }
}

fn unknown_exit(pid: i32) -> Exit {
    Exit { timestamp: SystemTime::now(), pid, status: UNKNOWN_STATUS }
}

/// A client that has left needs no answer.
fn answer<T>(reply: Reply<T>, result: Result<T, TaskError>) {
    let _ = reply.send(result);
}
