//! Creating and restoring a container, and undoing a create that failed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::command::CreateRequest;
use crate::{
    bundle::{Bundle, read_pid},
    model::{NewContainer, ObservedContainer, RuntimeCall, Spec},
    reaper::{Child, Reaper},
    runc::{Cancel, Create, Restore, Runc, RuntimeError},
    task::{
        TaskError,
        cgroup::{Cgroup, OomWatch, remove_leftover},
        io::{LoggerIdentity, PipeOwner, ProcessIo},
        rootfs,
        shared::Shared,
    },
    workers::{self, Work},
};

/// Time limit of the runtime's delete after a failed create.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a successful create.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) runc: Arc<Runc>,
    pub(super) io: ProcessIo,
    /// Whether the container has a pid namespace of its own. If so, the kernel kills all its
    /// processes when init dies.
    pub(super) owns_pid_namespace: bool,
    /// The init process; `None` if the container is to be restored from a checkpoint, which start
    /// does.
    pub(super) init: Option<RunningInit>,
    /// Reports to the observer; `None` if the container is not observed.
    pub(super) watched: Option<Arc<dyn ObservedContainer>>,
}

/// The init process of a created or restored container, with its cgroup. After a create it waits
/// for start.
#[derive(Debug)]
pub(super) struct RunningInit {
    pub(super) child: Child,
    /// The init's cgroup; `None` if it could not be found.
    pub(super) cgroup: Option<Cgroup>,
    /// The watch for OOM kills; `None` if there is no cgroup, or the cgroup could not be watched.
    pub(super) oom: Option<OomWatch>,
    /// The runtime's call that has made init; `None` if the container is not observed. It ends when
    /// the observer knows init: until then nothing but the call keeps init from being taken for a
    /// process of another container.
    pub(super) call: Option<Box<dyn RuntimeCall>>,
}

/// Creates a container. A failure leaves nothing behind.
///
/// # Errors
///
/// The error of the failed step. Using `cancel` makes the runtime's create fail.
pub(super) async fn create(
    shared: &Shared,
    request: &CreateRequest,
    cancel: &Cancel,
) -> Result<Created, TaskError> {
    let runc = Runc::new(
        &request.options,
        &shared.namespace,
        &request.bundle,
        shared.container_oom_score_adj,
        shared.reaper.clone(),
    );
    // A create without a runtime fails before it has changed anything.
    let binary = runc.path().map_err(runtime("OCI runtime create failed"))?;
    let runc = Arc::new(runc);
    let bundle = Bundle::new(&request.bundle);
    let spec = blocking(Work::File, move || Ok::<_, TaskError>(bundle.spec()?)).await?;
    let owns_pid_namespace = spec.owns_pid_namespace();
    let cgroups_path = spec.cgroups_path().to_owned();
    // The observer must know the container before the runtime makes its first process. The source
    // is opened while the bundle is prepared.
    let watched = begin_watch(shared, request, binary, spec);
    if let Some(watched) = &watched {
        runc.report_calls(watched.clone());
    }
    let (to_prepare, reaper) = (request.clone(), shared.reaper.clone());
    blocking(Work::File, move || prepare_bundle(&to_prepare, &reaper)).await?;
    match create_init(shared, request, &runc, watched.as_deref(), cancel).await {
        Ok((io, mut init)) => {
            if let (Some(watched), Some(init)) = (&watched, &mut init) {
                // This and `ready` are the only calls of the observer that are awaited (2 s and 1 s
                // at most). Init waits for start, so the container's program does not run before
                // the observer is ready.
                watched.created(init.child.pid, false).await;
                init.call = None;
            }
            Ok(Created { runc, io, owns_pid_namespace, init, watched })
        }
        Err(error) => {
            // If the streams could not be opened, the runtime was not called, and a cgroup that
            // exists is not of this create.
            let cgroups_path = Some(cgroups_path).filter(|_| !matches!(error, TaskError::Io(_)));
            undo(&runc, request, cgroups_path).await;
            Err(error)
        }
    }
}

/// Announces the container to the observer. `None` if the container is not to be observed.
fn begin_watch(
    shared: &Shared,
    request: &CreateRequest,
    runtime: PathBuf,
    spec: Spec,
) -> Option<Arc<dyn ObservedContainer>> {
    let owns_pid_namespace = spec.owns_pid_namespace();
    shared.watch.as_ref()?.begin(NewContainer {
        namespace: shared.namespace.clone(),
        id: request.id.clone(),
        bundle: request.bundle.clone(),
        runtime,
        annotations: spec.annotations,
        options: request.options.lookout.clone(),
        owns_pid_namespace,
    })
}

/// Opens the streams and runs the runtime's create. If there is a checkpoint to restore, returns no
/// init.
async fn create_init(
    shared: &Shared,
    request: &CreateRequest,
    runc: &Runc,
    watched: Option<&dyn ObservedContainer>,
    cancel: &Cancel,
) -> Result<(ProcessIo, Option<RunningInit>), TaskError> {
    let options = &request.options;
    let owner = PipeOwner { uid: options.io_uid, gid: options.io_gid };
    let identity = LoggerIdentity { namespace: &shared.namespace, container_id: &request.id };
    let mut io = ProcessIo::open(&request.stdio, owner, identity, &shared.reaper).await?;
    // For a checkpoint, containerd expects a created task without a pid. Start then runs the
    // restore.
    if !request.checkpoint.is_empty() {
        return Ok((io, None));
    }
    let pid_file = Bundle::new(&request.bundle).init_pid_file();
    let stdio = io.child();
    let socket = io.console_socket().map(Path::to_owned);
    if let Some(watched) = watched {
        watched.ready().await;
    }
    let call = runc.begin_observed_call();
    let arguments = Create {
        pid_file: &pid_file,
        console_socket: socket.as_deref(),
        stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
        no_pivot: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        observed: call.as_deref(),
    };
    // Init can die before its pid file is read. The guard makes the reaper keep its exit.
    let keep_exits = shared.reaper.keep_exits();
    if let Err(source) = runc.create(&request.id, arguments, cancel).await {
        return Err(runtime_error("OCI runtime create failed", source, &io));
    }
    let child = take_over(&shared.reaper, &pid_file, "container").await?;
    drop(keep_exits);
    io.release().await?;
    Ok((io, Some(RunningInit::new(child, call, &request.id).await)))
}

/// Restores the checkpoint of a created container, with the streams that the create has opened.
///
/// # Errors
///
/// The error of the failed step. Using `cancel` makes the runtime's restore fail.
pub(super) async fn restore(
    shared: &Shared,
    request: &CreateRequest,
    runc: &Runc,
    io: &mut ProcessIo,
    cancel: &Cancel,
) -> Result<RunningInit, TaskError> {
    let pid_file = Bundle::new(&request.bundle).init_pid_file();
    let work = match request.options.criu_work_path.as_str() {
        "" => request.bundle.join("work"),
        path => PathBuf::from(path),
    };
    let stdio = io.child();
    let socket = io.console_socket().map(Path::to_owned);
    let call = runc.begin_observed_call();
    let arguments = Restore {
        image: Path::new(&request.checkpoint),
        work: &work,
        parent: Some(Path::new(&request.parent_checkpoint))
            .filter(|path| !path.as_os_str().is_empty()),
        create: Create {
            pid_file: &pid_file,
            console_socket: socket.as_deref(),
            stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
            no_pivot: request.options.no_pivot_root,
            // The runtime's `restore` has no such flag.
            no_new_keyring: false,
            observed: call.as_deref(),
        },
    };
    // The guard has the same purpose as in `create_init`. A restored init runs at once, so it can
    // also exit at once.
    let keep_exits = shared.reaper.keep_exits();
    if let Err(source) = runc.restore(&request.id, arguments, cancel).await {
        return Err(runtime_error("OCI runtime restore failed", source, io));
    }
    let child = take_over(&shared.reaper, &pid_file, "container").await?;
    drop(keep_exits);
    io.release().await?;
    Ok(RunningInit::new(child, call, &request.id).await)
}

impl RunningInit {
    /// Finds the cgroup and begins to watch it. This happens before start, so that no OOM kill is
    /// missed.
    async fn new(child: Child, call: Option<Box<dyn RuntimeCall>>, id: &str) -> Self {
        let pid = child.pid;
        let cgroup = blocking(Work::Query, move || {
            let cgroup = Cgroup::of_process(pid)?;
            // Without controllers there are neither metrics nor OOM events. Most runtimes enable
            // the controllers, so a failure here rarely has a consequence.
            if let Err(error) = cgroup.enable_controllers() {
                tracing::debug!(pid, %error, "failed to enable all controllers of a cgroup");
            }
            Ok::<_, TaskError>(cgroup)
        })
        .await;
        // The create does not fail, because a container without metrics is better than no
        // container.
        let cgroup = cgroup
            .inspect_err(|error| {
                tracing::warn!(
                    id,
                    pid,
                    %error,
                    "no cgroup found for a container: it has no metrics and no OOM events"
                );
            })
            .ok();
        let oom = cgroup.as_ref().and_then(|cgroup| {
            cgroup
                .watch_oom()
                .inspect_err(|error| tracing::warn!(id, %error, "failed to watch for OOM kills"))
                .ok()
        });
        Self { child, cgroup, oom, call }
    }
}

/// Reads a pid file that the runtime has written and adopts the process, so that the reaper reports
/// its exit.
///
/// # Errors
///
/// [`TaskError::Pid`] if the file cannot be read or names no child of this shim. The runtime is not
/// trusted: a wrong pid would be signalled later.
pub(super) async fn take_over(
    reaper: &Reaper,
    pid_file: &Path,
    what: &'static str,
) -> Result<Child, TaskError> {
    let path = pid_file.to_owned();
    let read =
        move || read_pid(&path).map_err(|error| TaskError::Pid { what, why: error.to_string() });
    let pid = blocking(Work::File, read).await?;
    reaper.adopt(pid).map_err(|error| TaskError::not_ours(what, error))
}

/// The error of a runtime that failed. The error quotes the runtime's output if the runtime's log
/// has no error.
pub(super) fn runtime_error(what: &'static str, source: RuntimeError, io: &ProcessIo) -> TaskError {
    TaskError::Runtime { what, source: source.quoting(&io.runtime_output()) }
}

/// Wraps a runtime's error with the operation that failed, in the wording of the Go shim.
pub(super) fn runtime(what: &'static str) -> impl FnOnce(RuntimeError) -> TaskError {
    move |source| TaskError::Runtime { what, source }
}

/// Removes the parts of a container that a failed create has made. A failure to remove a part is
/// only logged, because the client receives the error of the create.
async fn undo(runc: &Runc, request: &CreateRequest, cgroups_path: Option<String>) {
    let id = &request.id;
    // If there is no state, the runtime has created nothing or has already removed it.
    if runc.has_state(id)
        && let Err(error) = runc.delete(id, true, Some(CLEANUP_TIMEOUT)).await
    {
        tracing::warn!(id, %error, "failed to delete the container that a failed create left");
    }
    // A runtime that was killed has not removed the cgroup that it had made.
    if let Some(path) = cgroups_path {
        let systemd = request.options.systemd_cgroup;
        if let Err(error) = blocking(Work::File, move || remove_leftover(&path, systemd)).await {
            tracing::warn!(id, %error, "failed to remove the cgroup of a failed create");
        }
    }
    // If the shim has not mounted the root filesystem, it must not unmount it.
    if request.rootfs.is_empty() {
        return;
    }
    let rootfs = Bundle::new(&request.bundle).rootfs();
    if let Err(error) = blocking(Work::File, move || rootfs::unmount_recursive(&rootfs)).await {
        tracing::warn!(id, %error, "failed to unmount the root filesystem after a failed create");
    }
}

/// Writes the files that the delete verb will read, and mounts the root filesystem. Blocks.
fn prepare_bundle(request: &CreateRequest, reaper: &Reaper) -> Result<(), TaskError> {
    let bundle = Bundle::new(&request.bundle);
    bundle.forget_init();
    // The options are written before the mounts: if the shim dies after that, the delete verb needs
    // them to clean up.
    bundle.write_options(&request.options)?;
    if !request.rootfs.is_empty() {
        rootfs::mount_all(&request.rootfs, &bundle.make_rootfs()?, reaper)?;
    }
    Ok(())
}

/// Makes a call that may block, on a thread for this kind of work.
///
/// # Errors
///
/// The error of `call`; [`TaskError::Abandoned`] if it panicked.
pub(super) async fn blocking<T, E>(
    kind: Work,
    call: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, TaskError>
where
    T: Send + 'static,
    E: Into<TaskError> + Send + 'static,
{
    match workers::run(kind, call).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(TaskError::Abandoned),
    }
}
