//! From a request to a created container, and back if a step fails.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::command::CreateRequest;
use crate::{
    bundle::Bundle,
    model::{Beginning, Spec, Watched},
    reaper::{Child, Reaper},
    runc::{Cancel, Create, Restore, Runc, RuntimeError},
    task::{
        TaskError,
        cgroup::{Cgroup, OomWatch},
        io::{For, Owner, ProcessIo},
        rootfs,
        supervisor::Shared,
    },
};

/// How long the clean-up after a failed create may take.
const CLEANUP: Duration = Duration::from_secs(5);

/// What a successful create leaves.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) runc: Arc<Runc>,
    pub(super) io: ProcessIo,
    pub(super) owns_pid_namespace: bool,
    /// The running init; none where start will restore it.
    pub(super) init: Option<Running>,
    pub(super) watched: Option<Arc<dyn Watched>>,
}

/// An init that exists.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) oom: Option<OomWatch>,
}

/// Creates a container, and on failure leaves nothing of it.
pub(super) async fn create(
    shared: &Shared,
    request: &CreateRequest,
    cancel: &Cancel,
) -> Result<Made, TaskError> {
    let runtime = |source| TaskError::Runtime { what: "OCI runtime create failed", source };
    let runc = Runc::new(
        &request.options,
        &shared.namespace,
        &request.bundle,
        shared.container_oom_score_adj,
        shared.reaper.clone(),
    )
    .map_err(runtime)?;
    let runc = Arc::new(runc);
    let to_prepare = request.clone();
    let spec = blocking(move || prepare(&to_prepare)).await?;
    let owns_pid_namespace = spec.owns_pid_namespace();
    let watched = watch(shared, request, &runc, spec);
    match make(shared, request, &runc, cancel).await {
        Ok((io, init)) => {
            if let (Some(watched), Some(init)) = (&watched, &init) {
                watched.created(init.child.pid, false).await;
            }
            Ok(Made { runc, io, owns_pid_namespace, init, watched })
        }
        Err(error) => {
            undo(&runc, request).await;
            Err(error)
        }
    }
}

fn watch(
    shared: &Shared,
    request: &CreateRequest,
    runc: &Runc,
    spec: Spec,
) -> Option<Arc<dyn Watched>> {
    let owns_pid_namespace = spec.owns_pid_namespace();
    shared.watch.as_ref()?.begin(Beginning {
        namespace: shared.namespace.clone(),
        id: request.id.clone(),
        bundle: request.bundle.clone(),
        runtime: runc.path().to_owned(),
        annotations: spec.annotations,
        options: request.options.lookout.clone(),
        owns_pid_namespace,
    })
}

async fn make(
    shared: &Shared,
    request: &CreateRequest,
    runc: &Runc,
    cancel: &Cancel,
) -> Result<(ProcessIo, Option<Running>), TaskError> {
    let options = &request.options;
    let owner = Owner { uid: options.io_uid, gid: options.io_gid };
    let whom = For { namespace: &shared.namespace, container_id: &request.id };
    let mut io = ProcessIo::open(&request.stdio, owner, whom, &shared.reaper).await?;
    if !request.checkpoint.is_empty() {
        return Ok((io, None));
    }
    let pid_file = Bundle::new(&request.bundle).init_pid_file();
    let stdio = io.child();
    let socket = io.console_socket().map(Path::to_owned);
    let with = Create {
        pid_file: &pid_file,
        console_socket: socket.as_deref(),
        stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
        no_pivot: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
    };
    let expecting = shared.reaper.expecting();
    if let Err(source) = runc.create(&request.id, with, cancel).await {
        return Err(runtime_error("OCI runtime create failed", source, &io));
    }
    let child = take_over(&shared.reaper, &pid_file, "container")?;
    drop(expecting);
    io.release().await?;
    Ok((io, Some(Running::new(child, &request.id).await)))
}

/// Restores what `create` of a checkpoint only prepared, with the streams of that create.
pub(super) async fn restore(
    shared: &Shared,
    request: &CreateRequest,
    runc: &Runc,
    io: &mut ProcessIo,
    cancel: &Cancel,
) -> Result<Running, TaskError> {
    let pid_file = Bundle::new(&request.bundle).init_pid_file();
    let work = match request.options.criu_work_path.as_str() {
        "" => request.bundle.join("work"),
        path => PathBuf::from(path),
    };
    let stdio = io.child();
    let socket = io.console_socket().map(Path::to_owned);
    let from = Restore {
        image: Path::new(&request.checkpoint),
        work: &work,
        parent: Some(Path::new(&request.parent_checkpoint))
            .filter(|path| !path.as_os_str().is_empty()),
        create: Create {
            pid_file: &pid_file,
            console_socket: socket.as_deref(),
            stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
            no_pivot: request.options.no_pivot_root,
            // `restore` has no such flag.
            no_new_keyring: false,
        },
    };
    let expecting = shared.reaper.expecting();
    if let Err(source) = runc.restore(&request.id, from, cancel).await {
        return Err(runtime_error("OCI runtime restore failed", source, io));
    }
    let child = take_over(&shared.reaper, &pid_file, "container")?;
    drop(expecting);
    io.release().await?;
    Ok(Running::new(child, &request.id).await)
}

impl Running {
    /// Finds the cgroup and begins to watch it: before start, so that no OOM kill is missed.
    async fn new(child: Child, id: &str) -> Self {
        let pid = child.pid;
        let cgroup = blocking(move || {
            let cgroup = Cgroup::of_process(pid)?;
            // Without the controllers there is nothing to watch or to count; runtimes mostly see to
            // it.
            if let Err(error) = cgroup.enable_controllers() {
                tracing::debug!(pid, %error, "not all controllers are enabled");
            }
            Ok::<_, TaskError>(cgroup)
        })
        .await;
        let cgroup = cgroup.inspect_err(|error| tracing::warn!(id, pid, %error, "no cgroup")).ok();
        let oom = cgroup.as_ref().and_then(|cgroup| {
            cgroup
                .watch_oom()
                .inspect_err(|error| tracing::warn!(id, %error, "cannot watch for OOM kills"))
                .ok()
        });
        Self { child, cgroup, oom }
    }
}

/// Reads a pid file of the runtime's and takes the process over.
pub(super) fn take_over(
    reaper: &Reaper,
    pid_file: &Path,
    what: &'static str,
) -> Result<Child, TaskError> {
    // A few bytes on the bundle's filesystem, written just now.
    let text = fs::read_to_string(pid_file)
        .map_err(|error| TaskError::Pid { what, why: error.to_string() })?;
    let pid = text
        .trim()
        .parse()
        .map_err(|_| TaskError::Pid { what, why: format!("{:.40?} is no pid", text) })?;
    reaper.adopt(pid).map_err(|error| TaskError::not_ours(what, error))
}

/// The runtime's failure, with what it printed where its log said nothing.
pub(super) fn runtime_error(what: &'static str, source: RuntimeError, io: &ProcessIo) -> TaskError {
    TaskError::Runtime { what, source: source.quoting(&io.runtime_output()) }
}

async fn undo(runc: &Runc, request: &CreateRequest) {
    let id = &request.id;
    if runc.has_state(id)
        && let Err(error) = runc.delete(id, true, Some(CLEANUP)).await
    {
        tracing::warn!(id, %error, "failed to remove what a failed create left");
    }
    if request.rootfs.is_empty() {
        return;
    }
    let rootfs = Bundle::new(&request.bundle).rootfs();
    if let Err(error) = blocking(move || rootfs::unmount_recursive(&rootfs)).await {
        tracing::warn!(id, %error, "failed to unmount after a failed create");
    }
}

/// Writes what the delete verb will read, mounts the root filesystem, and reads the specification.
/// Blocks.
fn prepare(request: &CreateRequest) -> Result<Spec, TaskError> {
    let bundle = Bundle::new(&request.bundle);
    let spec = bundle.spec()?;
    bundle.write_options(&request.options)?;
    if !request.rootfs.is_empty() {
        rootfs::mount_all(&request.rootfs, &bundle.make_rootfs()?)?;
    }
    Ok(spec)
}

/// Runs what may block on the bounded pool.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, TaskError>
where
    T: Send + 'static,
    E: Into<TaskError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        // The pool was shut down, or the work panicked.
        Err(_) => Err(TaskError::Abandoned),
    }
}
