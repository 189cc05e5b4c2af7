//! The ends of operations, and of init.

use std::ops::ControlFlow;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::{
    super::{
        command::{Deleted, Reply},
        create::{Made, Running},
        operations::Done,
    },
    Container, STARTING_GRACE, answer, unknown_exit,
};
use crate::{
    bundle::Bundle,
    publish::TaskEvent,
    runc::Cancel,
    task::{
        TaskError,
        io::ProcessIo,
        lifecycle::{
            container::{Input, State},
            exec,
        },
        wire,
    },
};

impl Container {
    pub(super) fn done(&mut self, done: Done) -> ControlFlow<()> {
        match done {
            Done::Created { reply, result } => return self.created(reply, result),
            Done::Started { reply, result } => self.started(reply, result),
            Done::Restored { reply, io, result } => self.restored(reply, *io, result),
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
                if let Some(watched) = &self.watched {
                    watched.exited("", exit);
                }
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
            Done::ExecStarted { exec_id, reply, result } => {
                self.exec_started(exec_id, reply, result)
            }
            Done::ExecExited { exec_id, exit } => self.exec_exited(&exec_id, exit),
            Done::ExecDeleted { exec_id, reply } => self.exec_deleted(&exec_id, reply),
            Done::Deleted { reply, result } => return self.delete_done(reply, result),
            Done::Answered => {}
        }
        self.settle();
        ControlFlow::Continue(())
    }

    pub(super) fn created(
        &mut self,
        reply: Reply<i32>,
        result: Result<Box<Made>, TaskError>,
    ) -> ControlFlow<()> {
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
        self.watched = made.watched;
        self.operations.watch_output(self.watched.clone(), "", &made.io);
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

    pub(super) fn watch(&mut self, running: Running) {
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

    pub(super) fn started(&mut self, reply: Reply<i32>, result: Result<(), TaskError>) {
        self.apply(Input::StartEnded { ok: result.is_ok() });
        answer(reply, result.map(|()| self.init_pid));
    }

    pub(super) fn restored(
        &mut self,
        reply: Reply<i32>,
        io: ProcessIo,
        result: Result<Running, TaskError>,
    ) {
        if let Ok(running) = &result {
            self.operations.watch_restored(self.watched.clone(), running.child.pid);
        }
        let result = result.map(|running| self.watch(running));
        self.init.attach(io);
        self.init.begin_input();
        self.started(reply, result);
    }

    pub(super) fn delete_done(
        &mut self,
        reply: Reply<Deleted>,
        result: Result<(), TaskError>,
    ) -> ControlFlow<()> {
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
            let _ = self.shared.reaper.signal(self.init_pid, Signal::SIGKILL);
            self.delete_ended = Some(reply);
            return ControlFlow::Continue(());
        }
        self.deleted(reply)
    }

    pub(super) fn deleted(&mut self, reply: Reply<Deleted>) -> ControlFlow<()> {
        let deleted = Deleted { pid: self.init_pid, exit: self.state.exit() };
        self.apply(Input::DeleteEnded { ok: true });
        self.supervisor.forget(&self.request.id);
        if let Some(watched) = self.watched.take() {
            watched.deleted();
        }
        tracing::info!(id = self.request.id, "deleted");
        self.tell(TaskEvent::delete(&self.request.id, deleted.pid, deleted.exit));
        for reply in self.joined_deletes.drain(..).chain([reply]) {
            answer(reply, Ok(deleted));
        }
        ControlFlow::Break(())
    }
}
