//! Requests to the container and to its init.

use std::{path::PathBuf, sync::Arc, time::Instant};

use super::execs::ExecEntry;
use super::{
    super::{
        command::{Command, Deleted, ListedProcess, ProcessEnd, Reply, StateAnswer, Status},
        delete::Unmount,
        kill::KillTarget,
        operations::CheckpointDirectories,
    },
    Container, answer,
};
use crate::{
    bundle::Bundle,
    model::ProcessId,
    runc::{CheckpointOptions, Runc},
    task::{
        TaskError,
        lifecycle::{
            Denied,
            container::{self, Delete, Fact, Kill, Request, State},
            exec,
        },
    },
};

impl Container {
    /// Handles State.
    pub(super) fn answer_state(&mut self, process: &ProcessId) -> Result<StateAnswer, TaskError> {
        // If the container is frozen, the state of an exec is paused as well, as in the Go shim.
        let frozen = match self.state {
            State::Creating | State::Deleted => return Err(Denied::NotCreated.into()),
            State::Pausing => Some(Status::Pausing),
            State::Paused | State::Resuming => Some(Status::Paused),
            _ => None,
        };
        let bundle = self.request.bundle.clone();
        let ProcessId::Exec(exec_id) = process else {
            let status = frozen.unwrap_or(match self.state {
                State::Created { .. }
                | State::Starting { .. }
                | State::Deleting { exit: None, .. } => Status::Created,
                State::Stopped { .. } | State::Deleting { exit: Some(_), .. } => Status::Stopped,
                // This includes `Ending`: init counts as running until its exit is reported.
                _ => Status::Running,
            });
            let stdio = self.init.stdio.clone();
            return Ok(StateAnswer {
                bundle,
                pid: self.init_pid,
                status,
                stdio,
                exit: self.state.exit(),
            });
        };
        let exec = self.exec(exec_id)?;
        let status = frozen.unwrap_or(match exec.state {
            exec::State::Added
            | exec::State::Starting
            | exec::State::Failed
            | exec::State::Deleting { exit: None } => Status::Created,
            exec::State::Running { .. } => Status::Running,
            exec::State::Stopped { .. } | exec::State::Deleting { exit: Some(_) } => {
                Status::Stopped
            }
        });
        let stdio = exec.process.stdio.clone();
        Ok(StateAnswer { bundle, pid: exec.state.pid(), status, stdio, exit: exec.state.exit() })
    }

    /// Handles Wait: answers at once if the exit has been reported, otherwise when it is reported.
    pub(super) fn wait(&mut self, process: &ProcessId, reply: Reply<ProcessEnd>) {
        if matches!(self.state, State::Creating) {
            return answer(reply, Err(Denied::NotCreated.into()));
        }
        let reported = match process {
            ProcessId::Init => self.state.exit().map(ProcessEnd::from),
            ProcessId::Exec(exec_id) => {
                self.execs.get(&**exec_id).and_then(ExecEntry::reported_end)
            }
        };
        match (reported, self.process(process)) {
            (Some(end), _) => answer(reply, Ok(end)),
            (None, Ok(process)) => process.wait(reply),
            (None, Err(error)) => answer(reply, Err(error)),
        }
    }

    /// Handles ResizePty; sizes are in characters.
    pub(super) fn resize(
        &mut self,
        process: &ProcessId,
        width: u16,
        height: u16,
    ) -> Result<(), TaskError> {
        if let Some(exec) = process.exec_id().and_then(|exec_id| self.execs.get(exec_id)) {
            exec::allow(exec.state, exec::Request::Resize)?;
        }
        self.process(process)?.resize(width, height).map_err(TaskError::Resize)
    }

    /// Handles Start of init.
    pub(super) fn start(&mut self, reply: Reply<i32>) {
        match self.allow(Request::Start) {
            Ok(runc) if self.request.checkpoint.is_empty() => {
                // The input is not connected earlier: when the fifo is opened, a client assumes
                // that the process exists, writes its input and calls CloseIO, only once.
                self.init.begin_input();
                self.operations.start(runc, self.id(), self.cancel.clone(), reply);
            }
            Ok(runc) => match self.init.detach() {
                Some(io) => {
                    let (shared, request) = (self.shared.clone(), self.request.clone());
                    self.operations.restore(shared, request, runc, io, self.cancel.clone(), reply);
                }
                // An operation that panicked has lost the streams, so the container cannot be
                // restored.
                None => {
                    self.apply(Fact::StartEnded { ok: false });
                    answer(reply, Err(TaskError::Abandoned));
                }
            },
            Err(Denied::Busy) => self.defer(Command::Start { process: ProcessId::Init, reply }),
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    /// Handles Kill of init or of all processes.
    pub(super) fn kill(&mut self, signal: u32, all: bool, reply: Reply<()>) {
        match container::allow_kill(self.state, signal, all) {
            Ok(Kill::Abort) => {
                // The create may succeed before the cancellation takes effect. In that case the new
                // init is killed later, because the client has already received its answer.
                self.killed_while_creating = true;
                self.cancel.cancel();
                answer(reply, Ok(()));
            }
            Ok(Kill::Signal) => match self.runc.clone() {
                Some(runc) => {
                    let target = match all {
                        true => KillTarget::All(self.cgroup.clone()),
                        false => KillTarget::Init {
                            reaper: self.shared.reaper.clone(),
                            pid: self.init_pid,
                        },
                    };
                    self.operations.kill(runc, self.id(), signal, target, reply);
                }
                None => answer(reply, Err(Denied::NotCreated.into())),
            },
            Err(Denied::Busy) => {
                self.defer(Command::Kill { process: ProcessId::Init, signal, all, reply });
            }
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }

    /// Handles Checkpoint after the lifecycle has allowed it.
    pub(super) fn checkpoint(
        &mut self,
        runc: Arc<Runc>,
        path: &str,
        options: CheckpointOptions,
        reply: Reply<()>,
    ) {
        // containerd passes a directory of its own as `path` if it does not know the type of the
        // options. The client's directory is then in the options only.
        let candidates = [options.image_path(), path, &self.request.options.criu_image_path];
        let Some(image) = candidates.into_iter().find(|path| !path.is_empty()) else {
            let why =
                "neither the request nor the runtime options name a directory for the image".into();
            return answer(reply, Err(TaskError::Invalid { what: "checkpoint path", why }));
        };
        let bundle = self.request.bundle.clone();
        let to = CheckpointDirectories {
            image: PathBuf::from(image),
            work_is_temporary: options.work_path().is_empty(),
            work: match options.work_path() {
                "" => bundle.join("work/criu-work"),
                work => PathBuf::from(work),
            },
        };
        self.operations.checkpoint(runc, self.id(), bundle, to, options, reply);
    }

    /// Handles Pids.
    pub(super) fn pids(&mut self, reply: Reply<Vec<ListedProcess>>) {
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

    /// Handles Delete of the container.
    pub(super) fn delete(&mut self, reply: Reply<Deleted>) {
        match container::allow_delete(self.state) {
            Ok(Delete::AbortCreate) => {
                self.cancel.cancel();
                // The delete is answered when the create has ended, which happens soon because of
                // the cancellation.
                self.joined_deletes.push(reply);
            }
            Ok(Delete::Join) => self.joined_deletes.push(reply),
            Ok(Delete::Begin(state)) => {
                let Some(runc) = self.runc.clone() else {
                    return answer(reply, Err(Denied::NotCreated.into()));
                };
                self.state = state;
                self.delete_began.get_or_insert_with(Instant::now);
                // The root filesystem is unmounted only if the shim has mounted it.
                let rootfs = (!self.request.rootfs.is_empty())
                    .then(|| Bundle::new(&self.request.bundle).rootfs());
                let io = self.init.detach();
                let unmount = self.unmount.take();
                self.operations.delete(runc, self.id(), io, Unmount::of(rootfs, unmount), reply);
            }
            Err(Denied::Busy) => self.defer(Command::Delete { process: ProcessId::Init, reply }),
            Err(denied) => answer(reply, Err(denied.into())),
        }
    }
}
