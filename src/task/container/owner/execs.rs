//! The container's execs: requests to them, and the ends of their operations.

use nix::sys::signal::Signal;

use super::{
    super::{
        command::{Command, Deleted, ExecRequest, ProcessEnd, Reply},
        exec::ExecPlan,
        process::Process,
    },
    Container, answer,
};
use crate::{
    model::{Exit, ProcessId},
    publish::TaskEvent,
    reaper::Child,
    runc::Cancel,
    task::{
        TaskError,
        io::{PipeOwner, ProcessIo},
        lifecycle::{
            Denied,
            container::{Request, State},
            exec,
        },
    },
};

/// One exec of a container.
pub(super) struct ExecEntry {
    pub(super) state: exec::State,
    pub(super) process: Process,
    /// The OCI process document as JSON. It is kept after a start, because a failed start may be
    /// repeated.
    pub(super) document: Vec<u8>,
    /// Cancels the runtime's exec.
    pub(super) cancel: Cancel,
    /// Delete requests that were received during another delete. All receive the result of that
    /// delete.
    pub(super) joined_deletes: Vec<Reply<Deleted>>,
}

impl Container {
    /// Handles Exec: only records the exec. Start runs it.
    pub(super) fn add_exec(&mut self, request: ExecRequest) -> Result<(), TaskError> {
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
        self.publish(TaskEvent::exec_added(&self.request.id, &request.exec_id));
        self.execs.insert(request.exec_id, entry);
        Ok(())
    }

    /// Handles Start of an exec.
    pub(super) fn start_exec(&mut self, exec_id: String, reply: Reply<i32>) {
        let runc = match self.allow(Request::StartExec) {
            Ok(runc) => runc,
            Err(Denied::Busy) => {
                let process = ProcessId::Exec(exec_id.into());
                return self.defer(Command::Start { process, reply });
            }
            Err(Denied::InitNotRunning) => return answer(reply, Err(self.init_not_running())),
            Err(denied) => return answer(reply, Err(denied.into())),
        };
        let owner =
            PipeOwner { uid: self.request.options.io_uid, gid: self.request.options.io_gid };
        let (container_id, bundle) = (self.id(), self.request.bundle.clone());
        let watched = self.watched.clone();
        let exec = match self.exec(&exec_id) {
            Ok(exec) => exec,
            Err(error) => return answer(reply, Err(error)),
        };
        match exec::allow(exec.state, exec::Request::Start) {
            Ok(state) => exec.state = state,
            Err(denied) => return answer(reply, Err(denied.into())),
        }
        // The token is replaced, because a cancellation of the last start may still be stored in
        // the old token.
        exec.cancel = Cancel::default();
        let cancel = exec.cancel.clone();
        let (stdio, process) = (exec.process.stdio.clone(), exec.document.clone());
        let plan = ExecPlan { container_id, exec_id, bundle, owner, stdio, process, watched };
        self.operations.start_exec(self.shared.clone(), plan, runc, cancel, reply);
    }

    /// Handles Kill of an exec: sends the signal to its first process, or cancels a start in
    /// progress.
    pub(super) fn kill_exec(&mut self, exec_id: &str, signal: u32) -> Result<(), TaskError> {
        let reaper = self.shared.reaper.clone();
        let exec = self.exec(exec_id)?;
        match exec::allow_kill(exec.state, signal)? {
            exec::Kill::AbortStart => {
                exec.cancel.cancel();
                Ok(())
            }
            exec::Kill::Signal { pid } => {
                let signal =
                    i32::try_from(signal).map_err(|_| TaskError::KillExec(nix::Error::EINVAL))?;
                // The reaper sends the signal, because it refuses a pid that it has reaped, which
                // may now belong to another process.
                reaper.raw_signal(pid, signal).map_err(TaskError::KillExec)
            }
        }
    }

    /// Handles Delete of an exec.
    pub(super) fn delete_exec(&mut self, exec_id: String, reply: Reply<Deleted>) {
        let exec = match self.exec(&exec_id) {
            Ok(exec) => exec,
            Err(error) => return answer(reply, Err(error)),
        };
        match exec::allow_delete(exec.state) {
            Ok(exec::Delete::Join) => exec.joined_deletes.push(reply),
            Ok(exec::Delete::Begin(state)) => {
                exec.state = state;
                let io = exec.process.detach();
                self.operations.delete_exec(exec_id, io, reply);
            }
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    /// Handles the end of an exec's start.
    pub(super) fn exec_started(
        &mut self,
        exec_id: String,
        reply: Reply<i32>,
        result: Result<Box<(ProcessIo, Child)>, TaskError>,
    ) {
        let init_has_exited = matches!(self.state, State::Ending { .. });
        let error = self.init_not_running();
        let id = self.id();
        let reaper = self.shared.reaper.clone();
        // The exec is always present: neither a starting exec nor its container can be deleted.
        let Some(exec) = self.execs.get_mut(&exec_id) else { return };
        match result.map(|started| *started) {
            // The exec started after init had exited. If the container does not own its pid
            // namespace, nothing else would end the exec (containerd #10589).
            Ok((io, child)) if init_has_exited && !self.owns_pid_namespace => {
                drop(io);
                // The state stays `Starting` until this exit, so that init's exit waits for it.
                let _ = reaper.signal(child.pid, Signal::SIGKILL);
                self.operations.fail_exec(child, exec_id, error, reply);
            }
            Ok((io, child)) => {
                let pid = child.pid;
                let process = ProcessId::Exec(exec_id.as_str().into());
                self.operations.watch_output(self.watched.clone(), process, &io);
                exec.process.attach(io);
                exec.process.begin_input();
                self.operations.watch_exec(child, exec_id.clone());
                self.apply_to_exec(&exec_id, exec::Fact::Started { pid });
                answer(reply, Ok(pid));
            }
            Err(error) => {
                // There will be no exit, so requests that wait for it are answered now.
                exec.process.answer_waiters(ProcessEnd::unknown());
                self.apply_to_exec(&exec_id, exec::Fact::StartFailed);
                tracing::debug!(id, exec_id, %error, "exec failed to start");
                answer(reply, Err(error));
            }
        }
    }

    /// Handles the exit of an exec's process.
    pub(super) fn exec_exited(&mut self, exec_id: &str, exit: Exit) {
        let Some(exec) = self.execs.get_mut(exec_id) else { return };
        exec.process.exited();
        if let Some(watched) = &self.watched {
            watched.exited(&ProcessId::Exec(exec_id.into()), exit);
        }
        self.apply_to_exec(exec_id, exec::Fact::Exited(exit));
    }

    /// Handles the end of an exec's delete.
    pub(super) fn exec_deleted(&mut self, exec_id: &str, reply: Reply<Deleted>) {
        let Some(exec) = self.execs.remove(exec_id) else { return };
        let end = exec.state.exit().map(ProcessEnd::from);
        let deleted = Deleted { pid: exec.state.pid(), end };
        for reply in exec.joined_deletes.into_iter().chain([reply]) {
            answer(reply, Ok(deleted));
        }
    }
}

impl ExecEntry {
    /// The end that Wait returns at once; `None` if Wait must wait. An exec that failed to start
    /// has no exit, so Wait returns 255, the status for an unknown exit.
    pub(super) fn reported_end(&self) -> Option<ProcessEnd> {
        match self.state {
            exec::State::Failed => Some(ProcessEnd::unknown()),
            _ => self.state.exit().map(ProcessEnd::from),
        }
    }
}
