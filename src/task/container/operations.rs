//! The operations of a container: work that takes time. Each operation runs concurrently with the
//! container's owner and ends with one [`Completion`], which the owner receives.

use std::{
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use futures::FutureExt as _;
use tokio::task::JoinSet;

use super::{
    command::{CreateRequest, Deleted, ListedProcess, Reply},
    completion::Completion,
    create::{self, blocking, runtime},
    delete::{Unmount, close, delete},
    exec::{self, ExecPlan},
    kill::{self, KillTarget},
};
use crate::{
    bundle::Bundle,
    model::{ObservedContainer, ProcessId, RuntimeCall},
    reaper::Child,
    runc::{Cancel, Checkpoint, CheckpointOptions, Runc},
    sys::regular_file,
    task::{
        TaskError,
        cgroup::{Cgroup, OomWatch},
        io::ProcessIo,
        shared::Shared,
    },
    workers::Work,
};

/// The longest time for which a report of init's exit waits until the exit is in the bundle's file.
const EXIT_FILE_MAX: Duration = Duration::from_secs(1);

/// The number of bytes that are copied from the end of CRIU's log after a failed checkpoint. The
/// reason of the failure is at the end.
const DUMP_LOG_MAX: u64 = 16 << 20;

/// The operations of one container. Dropping this value cancels all of them and kills the runtimes
/// that they run.
#[derive(Debug, Default)]
pub(super) struct Operations {
    tasks: JoinSet<Completion>,
}

impl Operations {
    /// Waits for the next completion. Does not resolve while no operation is in progress.
    pub(super) async fn next(&mut self) -> Completion {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return done,
                // The operation panicked. Operations with a reply catch their panics, so no client
                // waits.
                Some(Err(error)) => tracing::error!(%error, "an operation on a container panicked"),
                // An empty JoinSet resolves at once, so the owner's select! would loop without
                // waiting.
                None => return std::future::pending().await,
            }
        }
    }

    /// Creates the container.
    pub(super) fn create(
        &mut self,
        shared: Arc<Shared>,
        request: Arc<CreateRequest>,
        cancel: Cancel,
        reply: Reply<Option<i32>>,
    ) {
        // The result is boxed, because the largest variant determines the size of every completion.
        let work = async move { create::create(&shared, &request, &cancel).await.map(Box::new) };
        self.run(work, |result| Completion::Created { reply, result });
    }

    /// Starts init.
    pub(super) fn start(&mut self, runc: Arc<Runc>, id: String, cancel: Cancel, reply: Reply<i32>) {
        let work = async move {
            runc.start(&id, &cancel).await.map_err(runtime("OCI runtime start failed"))
        };
        self.run(work, |result| Completion::Started { reply, result });
    }

    /// Restores a checkpoint. The completion returns the streams even if the restore failed.
    pub(super) fn restore(
        &mut self,
        shared: Arc<Shared>,
        request: Arc<CreateRequest>,
        runc: Arc<Runc>,
        mut io: ProcessIo,
        cancel: Cancel,
        reply: Reply<i32>,
    ) {
        self.tasks.spawn(async move {
            let restored = unless_panicked(async move {
                let result = create::restore(&shared, &request, &runc, &mut io, &cancel).await;
                (Box::new(io), result)
            });
            match restored.await {
                Some((io, result)) => Completion::Restored { reply, io: Some(io), result },
                None => Completion::Restored { reply, io: None, result: Err(TaskError::Abandoned) },
            }
        });
    }

    /// Freezes all processes of the container.
    pub(super) fn pause(&mut self, runc: Arc<Runc>, id: String, reply: Reply<()>) {
        let work =
            async move { runc.pause(&id).await.map_err(runtime("OCI runtime pause failed")) };
        self.run(work, |result| Completion::Paused { reply, result });
    }

    /// Thaws all processes of the container.
    pub(super) fn resume(&mut self, runc: Arc<Runc>, id: String, reply: Reply<()>) {
        let work =
            async move { runc.resume(&id).await.map_err(runtime("OCI runtime resume failed")) };
        self.run(work, |result| Completion::Resumed { reply, result });
    }

    /// Thaws a container after init has exited, so that its other processes can exit.
    pub(super) fn thaw(&mut self, runc: Arc<Runc>, id: String, cgroup: Option<Cgroup>) {
        self.tasks.spawn(async move {
            let Err(error) = runc.resume(&id).await else { return Completion::Answered };
            let thawed = match cgroup {
                Some(cgroup) => blocking(Work::Exit, move || cgroup.thaw()).await.is_ok(),
                None => false,
            };
            if !thawed {
                tracing::warn!(id, %error, "failed to thaw a container after its init exited");
            }
            Completion::Answered
        });
    }

    /// Sends a signal to init, or to all processes, through the runtime. If the runtime does not
    /// answer, sends it without the runtime.
    pub(super) fn kill(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        signal: u32,
        target: KillTarget,
        reply: Reply<()>,
    ) {
        self.answer(reply, kill::signal(runc, id, signal, target));
    }

    /// Changes the resource limits of the container. `resources` is the OCI `LinuxResources`
    /// document as JSON.
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

    /// Writes a checkpoint of the container.
    pub(super) fn checkpoint(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        bundle: PathBuf,
        to: CheckpointDirectories,
        options: CheckpointOptions,
        reply: Reply<()>,
    ) {
        self.answer(reply, async move {
            let result = runc
                .checkpoint(&id, Checkpoint { image: &to.image, work: &to.work }, &options)
                .await;
            if result.is_err() {
                // Only CRIU's own log contains the reason of the failure. It is copied, because the
                // work directory may be removed below or by the client. A missing log is ignored.
                let (log, copy) = (to.work.join("dump.log"), bundle.join("criu-dump.log"));
                let _ = blocking(Work::File, move || {
                    let copied = regular_file::read_end(&log, DUMP_LOG_MAX)
                        .and_then(|text| regular_file::write(&copy, &text));
                    copied.or(Ok::<(), TaskError>(()))
                })
                .await;
            }
            if to.work_is_temporary {
                let work = to.work.clone();
                let _ = blocking(Work::File, move || {
                    std::fs::remove_dir_all(work).or(Ok::<(), TaskError>(()))
                })
                .await;
            }
            let dump = bundle.join("criu-dump.log");
            result.map_err(|source| TaskError::Checkpoint { source, dump })?;
            // A client that believes in the image may remove the container.
            blocking(Work::File, move || match has_files(&to.image) {
                true => Ok(()),
                false => Err(TaskError::NoImage { directory: to.image }),
            })
            .await
        });
    }

    /// Reads the metrics of the cgroup.
    pub(super) fn stats(&mut self, cgroup: Cgroup, reply: Reply<Any>) {
        self.answer(reply, blocking(Work::Query, move || cgroup.stats()));
    }

    /// Lists the processes of the cgroup, with the id of each exec. The list is never empty: when
    /// containerd 1.7 or later starts, it deletes a task that has an empty list.
    pub(super) fn pids(
        &mut self,
        cgroup: Option<Cgroup>,
        init: Option<i32>,
        execs: Vec<(u32, String)>,
        reply: Reply<Vec<ListedProcess>>,
    ) {
        self.answer(reply, async move {
            let found = match cgroup {
                Some(cgroup) => blocking(Work::Query, move || cgroup.pids()).await,
                None => Ok(Vec::new()),
            };
            // A missing or unreadable cgroup is not an error either: the list then contains init
            // only, so that it is not empty.
            let pids = found.unwrap_or_default();
            if pids.is_empty() {
                let pid = init.and_then(|pid| u32::try_from(pid).ok());
                return Ok(vec![ListedProcess { pid, exec_id: None }]);
            }
            let exec_id = |pid| {
                execs.iter().find(|(exec, _)| *exec == pid).map(|(_, exec_id)| exec_id.clone())
            };
            Ok(pids
                .into_iter()
                .map(|pid| ListedProcess { pid: Some(pid), exec_id: exec_id(pid) })
                .collect())
        });
    }

    /// Waits for init's exit, then writes it to the bundle and reads the count of OOM kills, which
    /// must be reported before the exit.
    pub(super) fn watch_init(&mut self, child: Child, cgroup: Option<Cgroup>, bundle: Bundle) {
        self.tasks.spawn(async move {
            // The reaper drops the sender only when the shim itself ends.
            let Ok(exit) = child.exit.await else { return Completion::Answered };
            // The count is read after the exit, because the kernel counts an OOM kill before it
            // sends the signal. The OOM event must precede the exit event.
            let oom_kills = blocking(Work::Exit, move || {
                let kills = cgroup.and_then(|cgroup| cgroup.oom_kills().ok());
                if let Err(error) = bundle.write_exit(&exit) {
                    tracing::warn!(%error, "failed to write init's exit to the bundle");
                }
                Ok::<_, TaskError>(kills)
            });
            // A disk that hangs does not delay the exit for longer.
            let oom_kills = tokio::time::timeout(EXIT_FILE_MAX, oom_kills).await;
            let oom_kills = oom_kills.ok().and_then(Result::ok).flatten();
            Completion::InitExited { exit, oom_kills }
        });
    }

    /// Waits for the exit of an exec's process.
    pub(super) fn watch_exec(&mut self, child: Child, exec_id: String) {
        self.tasks.spawn(async move {
            match child.exit.await {
                Ok(exit) => Completion::ExecExited { exec_id, exit },
                Err(_) => Completion::Answered,
            }
        });
    }

    /// Reports a restored init to the observer. Init already runs, so the restore does not wait for
    /// the observer.
    pub(super) fn watch_restored(
        &mut self,
        watched: Option<Arc<dyn ObservedContainer>>,
        init: i32,
        call: Option<Box<dyn RuntimeCall>>,
    ) {
        let Some(watched) = watched else { return };
        self.tasks.spawn(async move {
            watched.created(init, true).await;
            drop(call);
            Completion::Answered
        });
    }

    /// Reports to the observer when the last process that held an output has closed it. For init,
    /// also reports its input to the observer, which needs it to find idle containers.
    pub(super) fn watch_output(
        &mut self,
        watched: Option<Arc<dyn ObservedContainer>>,
        process: ProcessId,
        io: &ProcessIo,
    ) {
        let Some(watched) = watched else { return };
        if process == ProcessId::Init {
            io.report_input(watched.clone());
        }
        let ended = io.output_ended();
        self.tasks.spawn(async move {
            ended.await;
            watched.output_ended(&process);
            Completion::Answered
        });
    }

    /// Waits for the next OOM kill. Must be called again after each kill.
    pub(super) fn watch_oom(&mut self, mut watch: OomWatch) {
        self.tasks.spawn(async move {
            match watch.next().await {
                Some(kills) => Completion::OomKilled { watch, kills },
                None => Completion::Answered,
            }
        });
    }

    /// Kills the processes that init left behind in a pid namespace that the container does not
    /// own. Ends when all are dead, or after [`kill::LEFTOVERS_MAX`].
    pub(super) fn kill_leftovers(&mut self, runc: Arc<Runc>, id: String, cgroup: Option<Cgroup>) {
        self.tasks.spawn(async move {
            kill::leftovers(&runc, &id, cgroup).await;
            Completion::LeftoversKilled
        });
    }

    /// Waits for `grace`, the time that starts in progress have to end.
    pub(super) fn wait_grace(&mut self, grace: Duration) {
        self.tasks.spawn(async move {
            tokio::time::sleep(grace).await;
            Completion::GraceElapsed
        });
    }

    /// Starts an exec.
    pub(super) fn start_exec(
        &mut self,
        shared: Arc<Shared>,
        plan: ExecPlan,
        runc: Arc<Runc>,
        cancel: Cancel,
        reply: Reply<i32>,
    ) {
        let exec_id = plan.exec_id.clone();
        let work = async move { exec::start(&shared, &plan, &runc, &cancel).await.map(Box::new) };
        self.run(work, |result| Completion::ExecStarted { exec_id, reply, result });
    }

    /// Waits for the exit of an exec's process that was killed because it started too late. The
    /// start then fails with `error`.
    pub(super) fn fail_exec(
        &mut self,
        child: Child,
        exec_id: String,
        error: TaskError,
        reply: Reply<i32>,
    ) {
        self.tasks.spawn(async move {
            let _ = child.exit.await;
            Completion::ExecStarted { exec_id, reply, result: Err(error) }
        });
    }

    /// Drains and closes the streams of an exec.
    pub(super) fn delete_exec(
        &mut self,
        exec_id: String,
        io: Option<ProcessIo>,
        reply: Reply<Deleted>,
    ) {
        self.tasks.spawn(async move {
            close(io).await;
            Completion::ExecDeleted { exec_id, reply }
        });
    }

    /// Deletes the container and unmounts its root filesystem, then drains and closes the streams
    /// of init.
    pub(super) fn delete(
        &mut self,
        runc: Arc<Runc>,
        id: String,
        io: Option<ProcessIo>,
        mut unmount: Unmount,
        reply: Reply<Deleted>,
    ) {
        let work = async move {
            let mut io = io;
            let result = delete(&runc, &id, &mut unmount).await;
            // A delete that failed changes nothing, so that a container that was not started can
            // still be started with its streams.
            if result.is_ok() {
                close(io.take()).await;
            }
            (io.map(Box::new), unmount, result)
        };
        self.tasks.spawn(async move {
            let panicked = (None, Unmount::None, Err(TaskError::Abandoned));
            let (io, unmount, result) = unless_panicked(work).await.unwrap_or(panicked);
            let unmount = match unmount {
                Unmount::InProgress(task) => Some(task),
                Unmount::None | Unmount::Of(_) => None,
            };
            Completion::Deleted { reply, result, io, unmount }
        });
    }

    /// Runs an operation that changes no state of the owner. Its result is sent directly to the
    /// client.
    fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
    ) {
        self.run(work, |result| {
            let _ = reply.send(result);
            Completion::Answered
        });
    }

    /// Runs an operation. Its completion is made from its result, also if it panics: without a
    /// completion the state would change no more, and no exit would be reported.
    fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
        complete: impl FnOnce(Result<T, TaskError>) -> Completion + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            complete(unless_panicked(work).await.unwrap_or(Err(TaskError::Abandoned)))
        });
    }
}

/// The output of an operation; `None` if it panicked.
async fn unless_panicked<T>(work: impl Future<Output = T>) -> Option<T> {
    let output = AssertUnwindSafe(work).catch_unwind().await;
    output.inspect_err(|_| tracing::error!("an operation on a container panicked")).ok()
}

/// The directories of a checkpoint.
#[derive(Debug)]
pub(super) struct CheckpointDirectories {
    /// The directory for the image.
    pub(super) image: PathBuf,
    /// The directory for CRIU's logs and temporary files.
    pub(super) work: PathBuf,
    /// Whether the shim has chosen `work`, and removes it after the checkpoint.
    pub(super) work_is_temporary: bool,
}

/// Whether a directory exists and is not empty.
fn has_files(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}
