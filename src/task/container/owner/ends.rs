//! Handling of completions: the ends of operations, and the exit of init.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::{
    super::{
        command::{Deleted, DeletedTask, ProcessEnd, Reply},
        completion::Completion,
        create::{Created, RunningInit},
    },
    Container, ENDING_GRACE, answer,
};
use crate::{
    bundle::Bundle,
    model::ProcessId,
    publish::TaskEvent,
    runc::Cancel,
    task::{
        TaskError,
        io::ProcessIo,
        lifecycle::{
            Denied,
            container::{Fact, State},
            exec,
        },
    },
};

/// The duration of a delete after which its client may have given up: people do, and containerd
/// does not report it to the shim.
const ABANDONED_AFTER: Duration = Duration::from_secs(2);

impl Container {
    /// Handles a completion. Breaks if the container no longer exists, so that its async task ends.
    pub(super) fn completed(&mut self, completion: Completion) -> ControlFlow<()> {
        match completion {
            Completion::Created { reply, result } => return self.created(reply, result),
            Completion::Started { reply, result } => self.started(reply, result),
            Completion::Restored { reply, io, result } => self.restore_ended(reply, io, result),
            Completion::Paused { reply, result } => {
                self.apply(Fact::PauseEnded { ok: result.is_ok() });
                answer(reply, result);
            }
            Completion::Resumed { reply, result } => {
                self.apply(Fact::ResumeEnded { ok: result.is_ok() });
                answer(reply, result);
            }
            Completion::InitExited { exit, oom_kills } => {
                // The exit can be received before the watch has reported an OOM kill. The OOM event
                // must be published before the exit.
                if oom_kills.is_some_and(|kills| kills > self.oom_kills_reported) {
                    self.oom_killed(oom_kills.unwrap_or_default());
                }
                self.init.exited();
                if let Some(watched) = &self.watched {
                    watched.exited(&ProcessId::Init, exit);
                }
                self.apply(Fact::Exited(exit));
                // The exit is reported when start has ended. The time for that is limited.
                if matches!(self.state, State::Starting { .. }) {
                    self.operations.wait_grace(ENDING_GRACE);
                }
                if let Some(reply) = self.reply_after_exit.take() {
                    return self.deleted(reply);
                }
            }
            // The handler of `InitExited` has counted the kills before the exit. Later kills are
            // not reported, because init's exit may already be published.
            Completion::OomKilled { .. } if self.state.init_has_exited() => {}
            Completion::OomKilled { watch, kills } => {
                self.oom_killed(kills);
                self.operations.watch_oom(watch);
            }
            Completion::LeftoversKilled => self.leftovers_killed = true,
            Completion::GraceElapsed => {
                if matches!(self.state, State::Starting { .. }) {
                    self.cancel.cancel();
                }
                self.grace_elapsed = matches!(self.state, State::Ending { .. });
                for exec in self.execs.values().filter(|exec| exec.state == exec::State::Starting) {
                    exec.cancel.cancel();
                }
            }
            Completion::ExecStarted { exec_id, reply, result } => {
                self.exec_started(exec_id, reply, result)
            }
            Completion::ExecExited { exec_id, exit } => self.exec_exited(&exec_id, exit),
            Completion::ExecDeleted { exec_id, reply } => self.exec_deleted(&exec_id, reply),
            Completion::Deleted { reply, result, io, unmount } => {
                self.unmount = unmount;
                if let Some(io) = io {
                    self.init.attach(*io);
                }
                return self.delete_completed(reply, result);
            }
            Completion::Answered => {}
        }
        // Any completion can be the last one for which the report of init's exit has waited.
        self.settle();
        ControlFlow::Continue(())
    }

    /// Handles the end of the create. Breaks if it failed.
    pub(super) fn created(
        &mut self,
        reply: Reply<Option<i32>>,
        result: Result<Box<Created>, TaskError>,
    ) -> ControlFlow<()> {
        let made = match result {
            Ok(made) => *made,
            Err(error) => {
                tracing::info!(id = self.request.id, %error, "failed to create a container");
                (self.forget)(None);
                answer(reply, Err(error));
                // A failed create has removed what it had created, so these deletes have nothing to
                // do.
                let deleted = Deleted { pid: None, end: Some(ProcessEnd::unknown()) };
                for joined in self.joined_deletes.drain(..) {
                    answer(joined, Ok(deleted));
                }
                return ControlFlow::Break(());
            }
        };
        self.runc = Some(made.runc);
        self.owns_pid_namespace = made.owns_pid_namespace;
        self.watched = made.watched;
        self.operations.watch_output(self.watched.clone(), ProcessId::Init, &made.io);
        self.init.attach(made.io);
        self.apply(Fact::Created { restore: made.init.is_none() });
        if let Some(running) = made.init {
            self.watch(running);
        }
        tracing::info!(id = self.request.id, pid = self.init_pid, "container created");
        self.publish(TaskEvent::create(&self.request.event(self.init_pid)));
        answer(reply, Ok(self.init_pid));
        // A cancellation that was too late for the create is still stored in the token and would
        // abort the start, so the token is replaced. The kill or the deletes that requested the
        // cancellation are performed here instead.
        self.cancel = Cancel::default();
        if self.killed_while_creating {
            // The request to kill was answered when it was received.
            let (reply, _) = oneshot::channel();
            self.kill(nix::libc::SIGKILL.unsigned_abs(), false, reply);
        }
        for joined in std::mem::take(&mut self.joined_deletes) {
            self.delete(joined);
        }
        ControlFlow::Continue(())
    }

    /// Records a new init, and begins to wait for its exit and for OOM kills.
    pub(super) fn watch(&mut self, running: RunningInit) {
        self.init_pid = Some(running.child.pid);
        self.cgroup = running.cgroup;
        let bundle = Bundle::new(&self.request.bundle);
        self.operations.watch_init(running.child, self.cgroup.clone(), bundle);
        if let Some(oom) = running.oom {
            // The count does not start at 0 if the cgroup existed before this container.
            self.oom_kills_reported = oom.last_count();
            self.operations.watch_oom(oom);
        }
    }

    /// Handles the end of a start or restore.
    pub(super) fn started(&mut self, reply: Reply<i32>, result: Result<(), TaskError>) {
        self.apply(Fact::StartEnded { ok: result.is_ok() });
        // A start that succeeded has an init, so this error is never sent.
        let pid = self.init_pid.ok_or(Denied::NotCreated.into());
        answer(reply, result.and(pid));
    }

    /// Handles the end of a restore.
    pub(super) fn restore_ended(
        &mut self,
        reply: Reply<i32>,
        io: Option<Box<ProcessIo>>,
        mut result: Result<RunningInit, TaskError>,
    ) {
        if let Ok(running) = &mut result {
            let (init, call) = (running.child.pid, running.call.take());
            self.operations.watch_restored(self.watched.clone(), init, call);
        }
        let result = result.map(|running| self.watch(running));
        // The streams are attached even after a failure, because the delete must drain and close
        // them.
        if let Some(io) = io {
            self.init.attach(*io);
            self.init.begin_input();
        }
        self.started(reply, result);
    }

    /// Handles the end of the runtime's delete. Breaks if the container is deleted.
    pub(super) fn delete_completed(
        &mut self,
        reply: Reply<Deleted>,
        result: Result<(), TaskError>,
    ) -> ControlFlow<()> {
        if let Err(error) = result {
            tracing::warn!(id = self.request.id, %error, "failed to delete a container");
            self.apply(Fact::DeleteEnded { ok: false });
            // Each request that joined this delete is now handled as a delete of its own.
            for joined in std::mem::take(&mut self.joined_deletes) {
                self.delete(joined);
            }
            answer(reply, Err(error));
            return ControlFlow::Continue(());
        }
        if let (State::Deleting { exit: None, .. }, Some(pid)) = (self.state, self.init_pid) {
            // Init was never started and has not been reaped. The runtime has killed init, so its
            // exit follows and must be reported before the delete. If the runtime has not killed
            // init, the delete would wait without end, so the shim kills it as well.
            let _ = self.shared.reaper.signal(pid, Signal::SIGKILL);
            self.reply_after_exit = Some(reply);
            return ControlFlow::Continue(());
        }
        self.deleted(reply)
    }

    /// Ends the container: frees its id, publishes the delete event and answers all deletes.
    pub(super) fn deleted(&mut self, reply: Reply<Deleted>) -> ControlFlow<()> {
        let exit = self.state.exit();
        let deleted = Deleted { pid: self.init_pid, end: exit.map(ProcessEnd::from) };
        let last_state = self.answer_state(&ProcessId::Init).ok();
        self.apply(Fact::DeleteEnded { ok: true });
        if let Some(watched) = self.watched.take() {
            watched.deleted();
        }
        tracing::info!(id = self.request.id, "container deleted");
        self.publish(TaskEvent::delete(&self.request.id, deleted.pid, exit));
        let requests = self.joined_deletes.len() + 1;
        // A client that has given up is noticed only if its request had a deadline or its
        // connection has ended. Otherwise a long wait without a second request is the only sign.
        let began = self.delete_began.unwrap_or_else(Instant::now);
        let may_be_gone = requests == 1 && began.elapsed() >= ABANDONED_AFTER;
        let mut received = false;
        for reply in self.joined_deletes.drain(..).chain([reply]) {
            received |= reply.send(Ok(deleted)).is_ok();
        }
        let last_state = last_state.filter(|_| may_be_gone || !received);
        (self.forget)(Some(DeletedTask { deleted, last_state }));
        ControlFlow::Break(())
    }
}
