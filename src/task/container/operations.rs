//! What takes time, each a future that ends in one [`Done`] for the container's owner.

use std::{path::PathBuf, sync::Arc, time::Duration};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use tokio::task::JoinSet;

use super::{
    command::{CreateRequest, Deleted, Pid, Reply},
    create::{self, Made, Running, blocking},
    exec::{self, Plan},
};
use crate::{
    bundle::Bundle,
    model::{Exit, Watched},
    reaper::Child,
    runc::{Cancel, Checkpoint, CheckpointOptions, Runc},
    task::{
        TaskError,
        cgroup::{Cgroup, OomWatch},
        io::ProcessIo,
        rootfs,
        supervisor::Shared,
    },
};

/// How long a dead process's output may take to reach its client before delete closes it: within
/// the ten seconds that a caller of Delete has, with room for the runtime's delete (containerd
/// #13377).
const DRAIN: Duration = Duration::from_secs(2);

/// The end of an operation.
#[derive(Debug)]
pub(super) enum Done {
    Created {
        reply: Reply<i32>,
        result: Result<Box<Made>, TaskError>,
    },
    Started {
        reply: Reply<i32>,
        result: Result<(), TaskError>,
    },
    Restored {
        reply: Reply<i32>,
        io: Box<ProcessIo>,
        result: Result<Running, TaskError>,
    },
    Paused {
        reply: Reply<()>,
        result: Result<(), TaskError>,
    },
    Resumed {
        reply: Reply<()>,
        result: Result<(), TaskError>,
    },
    InitExited {
        exit: Exit,
        oom_kills: Option<u64>,
    },
    OomKilled {
        watch: OomWatch,
        kills: u64,
    },
    /// What init left behind has been killed, as far as it could be.
    LeftoversKilled,
    /// What was starting when init ended has had its time.
    GraceOver,
    ExecStarted {
        exec_id: String,
        reply: Reply<i32>,
        result: Result<Box<(ProcessIo, Child)>, TaskError>,
    },
    ExecExited {
        exec_id: String,
        exit: Exit,
    },
    ExecDeleted {
        exec_id: String,
        reply: Reply<Deleted>,
    },
    Deleted {
        reply: Reply<Deleted>,
        result: Result<(), TaskError>,
    },
    /// The operation has answered its client itself.
    Answered,
}

/// The operations of one container. Dropping it ends them all, and with them their runtimes.
#[derive(Debug, Default)]
pub(super) struct Operations {
    under_way: JoinSet<Done>,
}

impl Operations {
    /// The next end; pending for ever while nothing is under way.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(done)) => return done,
                // A panic in an operation: its reply was dropped, its client has an error.
                Some(Err(error)) => tracing::error!(%error, "an operation ended without an answer"),
                None => return std::future::pending().await,
            }
        }
    }

    pub(super) fn create(
        &mut self,
        shared: Arc<Shared>,
        request: Arc<CreateRequest>,
        cancel: Cancel,
        reply: Reply<i32>,
    ) {
        self.under_way.spawn(async move {
            let result = create::create(&shared, &request, &cancel).await.map(Box::new);
            Done::Created { reply, result }
        });
    }

    pub(super) fn start(&mut self, runc: Arc<Runc>, id: String, cancel: Cancel, reply: Reply<i32>) {
        self.under_way.spawn(async move {
            let result = runc.start(&id, &cancel).await;
            Done::Started { reply, result: result.map_err(runtime("OCI runtime start failed")) }
        });
    }

    pub(super) fn restore(
        &mut self,
        shared: Arc<Shared>,
        request: Arc<CreateRequest>,
        runc: Arc<Runc>,
        mut io: ProcessIo,
        cancel: Cancel,
        reply: Reply<i32>,
    ) {
        self.under_way.spawn(async move {
            let result = create::restore(&shared, &request, &runc, &mut io, &cancel).await;
            Done::Restored { reply, io: Box::new(io), result }
        });
    }

    pub(super) fn pause(&mut self, runc: Arc<Runc>, id: String, reply: Reply<()>) {
        self.under_way.spawn(async move {
            let result = runc.pause(&id).await;
            Done::Paused { reply, result: result.map_err(runtime("OCI runtime pause failed")) }
        });
    }

    pub(super) fn resume(&mut self, runc: Arc<Runc>, id: String, reply: Reply<()>) {
        self.under_way.spawn(async move {
            let result = runc.resume(&id).await;
            Done::Resumed { reply, result: result.map_err(runtime("OCI runtime resume failed")) }
        });
    }

    /// Thaws a container whose init has ended, so that the rest of it can die.
    pub(super) fn thaw(&mut self, runc: Arc<Runc>, id: String) {
        self.under_way.spawn(async move {
            if let Err(error) = runc.resume(&id).await {
                tracing::warn!(id, %error, "failed to thaw a container whose init has ended");
            }
            Done::Answered
        });
    }

    pub(super) fn kill(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        signal: u32,
        all: bool,
        reply: Reply<()>,
    ) {
        self.answer(
            reply,
            async move { runc.kill(&id, signal, all).await.map_err(TaskError::Kill) },
        );
    }

    pub(super) fn update(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        resources: Vec<u8>,
        reply: Reply<()>,
    ) {
        self.answer(reply, async move {
            runc.update(&id, &resources).await.map_err(runtime("OCI runtime update failed"))
        });
    }

    pub(super) fn checkpoint(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        bundle: PathBuf,
        to: CheckpointTo,
        options: CheckpointOptions,
        reply: Reply<()>,
    ) {
        self.answer(reply, async move {
            let result = runc
                .checkpoint(&id, Checkpoint { image: &to.image, work: &to.work }, &options)
                .await;
            if result.is_err() {
                // CRIU's own log says why; the work folder may be gone when somebody looks.
                let (log, copy) = (to.work.join("dump.log"), bundle.join("criu-dump.log"));
                let _ = blocking(move || {
                    std::fs::copy(log, copy).map(drop).or(Ok::<(), TaskError>(()))
                })
                .await;
            }
            if to.work_is_temporary {
                let work = to.work.clone();
                let _ = blocking(move || std::fs::remove_dir_all(work).or(Ok::<(), TaskError>(())))
                    .await;
            }
            let dump = bundle.join("criu-dump.log");
            result.map_err(|source| TaskError::Checkpoint { source, dump })
        });
    }

    pub(super) fn stats(&mut self, cgroup: Cgroup, reply: Reply<Any>) {
        self.answer(reply, blocking(move || cgroup.stats()));
    }

    /// The processes of the cgroup, each with the exec that it is. Never an empty list: containerd
    /// 1.7 and later delete a task whose list is empty when they load it.
    pub(super) fn pids(
        &mut self,
        cgroup: Option<Cgroup>,
        init: i32,
        execs: Vec<(u32, String)>,
        reply: Reply<Vec<Pid>>,
    ) {
        self.answer(reply, async move {
            let found = match cgroup {
                Some(cgroup) => blocking(move || cgroup.pids()).await,
                None => Ok(Vec::new()),
            };
            let mut pids = found.unwrap_or_default();
            if pids.is_empty() {
                pids.push(u32::try_from(init).unwrap_or_default());
            }
            let exec_id = |pid| {
                execs.iter().find(|(exec, _)| *exec == pid).map(|(_, exec_id)| exec_id.clone())
            };
            Ok(pids.into_iter().map(|pid| Pid { pid, exec_id: exec_id(pid) }).collect())
        });
    }

    /// Waits for init's end, then reads what must be told before it.
    pub(super) fn watch_init(&mut self, child: Child, cgroup: Option<Cgroup>, bundle: Bundle) {
        self.under_way.spawn(async move {
            let Ok(exit) = child.exit.await else { return Done::Answered };
            let oom_kills = blocking(move || {
                if let Err(error) = bundle.write_exit(&exit) {
                    tracing::warn!(%error, "failed to keep the exit for the delete verb");
                }
                Ok::<_, TaskError>(cgroup.and_then(|cgroup| cgroup.oom_kills().ok()))
            });
            Done::InitExited { exit, oom_kills: oom_kills.await.ok().flatten() }
        });
    }

    pub(super) fn watch_exec(&mut self, child: Child, exec_id: String) {
        self.under_way.spawn(async move {
            match child.exit.await {
                Ok(exit) => Done::ExecExited { exec_id, exit },
                Err(_) => Done::Answered,
            }
        });
    }

    /// Tells the watcher of an init that runs already.
    pub(super) fn watch_restored(&mut self, watched: Option<Arc<dyn Watched>>, init: i32) {
        let Some(watched) = watched else { return };
        self.under_way.spawn(async move {
            watched.created(init, true).await;
            Done::Answered
        });
    }

    /// Tells the watcher when the last holder of a process's output has let go of it.
    pub(super) fn watch_output(
        &mut self,
        watched: Option<Arc<dyn Watched>>,
        exec_id: &str,
        io: &ProcessIo,
    ) {
        let Some(watched) = watched else { return };
        if exec_id.is_empty() {
            io.tell_input(watched.clone());
        }
        let (ended, exec_id) = (io.output_ended(), exec_id.to_owned());
        self.under_way.spawn(async move {
            ended.await;
            watched.output_ended(&exec_id);
            Done::Answered
        });
    }

    pub(super) fn watch_oom(&mut self, mut watch: OomWatch) {
        self.under_way.spawn(async move {
            match watch.next().await {
                Some(kills) => Done::OomKilled { watch, kills },
                None => Done::Answered,
            }
        });
    }

    /// Kills what a container that shares its pid namespace leaves behind.
    pub(super) fn kill_leftovers(&mut self, runc: Arc<Runc>, id: String) {
        self.under_way.spawn(async move {
            if let Err(error) = runc.kill(&id, nix::libc::SIGKILL.unsigned_abs(), true).await {
                tracing::debug!(id, %error, "failed to kill what init left behind");
            }
            Done::LeftoversKilled
        });
    }

    pub(super) fn grace(&mut self, grace: Duration) {
        self.under_way.spawn(async move {
            tokio::time::sleep(grace).await;
            Done::GraceOver
        });
    }

    pub(super) fn start_exec(
        &mut self,
        shared: Arc<Shared>,
        plan: Plan,
        runc: Arc<Runc>,
        cancel: Cancel,
        reply: Reply<i32>,
    ) {
        self.under_way.spawn(async move {
            let result = exec::start(&shared, &plan, &runc, &cancel).await.map(Box::new);
            Done::ExecStarted { exec_id: plan.exec_id, reply, result }
        });
    }

    /// Waits for the end of an exec's process that must not be: its start failed all the same.
    pub(super) fn fail_exec(
        &mut self,
        child: Child,
        exec_id: String,
        error: TaskError,
        reply: Reply<i32>,
    ) {
        self.under_way.spawn(async move {
            let _ = child.exit.await;
            Done::ExecStarted { exec_id, reply, result: Err(error) }
        });
    }

    pub(super) fn delete_exec(
        &mut self,
        exec_id: String,
        io: Option<ProcessIo>,
        reply: Reply<Deleted>,
    ) {
        self.under_way.spawn(async move {
            close(io).await;
            Done::ExecDeleted { exec_id, reply }
        });
    }

    pub(super) fn delete(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        io: Option<ProcessIo>,
        rootfs: Option<PathBuf>,
        reply: Reply<Deleted>,
    ) {
        self.under_way.spawn(async move {
            close(io).await;
            let result = delete(&runc, &id, rootfs).await;
            Done::Deleted { reply, result }
        });
    }

    fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
    ) {
        self.under_way.spawn(async move {
            let _ = reply.send(work.await);
            Done::Answered
        });
    }
}

/// Where a checkpoint goes.
#[derive(Debug)]
pub(super) struct CheckpointTo {
    pub(super) image: PathBuf,
    pub(super) work: PathBuf,
    pub(super) work_is_temporary: bool,
}

async fn close(io: Option<ProcessIo>) {
    if let Some(io) = io {
        io.drain(DRAIN).await;
        io.close();
    }
}

async fn delete(runc: &Runc, id: &str, rootfs: Option<PathBuf>) -> Result<(), TaskError> {
    if runc.has_state(id) {
        runc.delete(id, false, None).await.map_err(runtime("failed to delete task"))?;
    }
    if let Some(rootfs) = rootfs {
        blocking(move || rootfs::unmount_recursive(&rootfs)).await?;
    }
    Ok(())
}

fn runtime(what: &'static str) -> impl FnOnce(crate::runc::RuntimeError) -> TaskError {
    move |source| TaskError::Runtime { what, source }
}
