//! Starting an exec: from the request to a process that is a child of the shim.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    command::ExecRequest,
    create::{blocking, runtime, runtime_error, take_over},
};
use crate::{
    bundle::BundleError,
    model::ObservedContainer,
    reaper::Child,
    runc::{Cancel, Exec, Runc, RuntimeError, Scratch},
    sys::regular_file,
    task::{
        TaskError,
        io::{LoggerIdentity, PipeOwner, ProcessIo, Stdio},
        shared::Shared,
    },
    workers::Work,
};

/// The inputs of an exec's start. They are copies, because the container's owner handles other
/// events meanwhile.
#[derive(Debug)]
pub(super) struct ExecPlan {
    pub(super) container_id: String,
    pub(super) exec_id: String,
    pub(super) bundle: PathBuf,
    /// The user and group that own the pipes.
    pub(super) owner: PipeOwner,
    pub(super) stdio: Stdio,
    /// The OCI process document as JSON.
    pub(super) process: Vec<u8>,
    /// Reports to the observer; `None` if the container is not observed.
    pub(super) watched: Option<Arc<dyn ObservedContainer>>,
}

/// Runs the runtime's exec and adopts the process that the runtime has started.
///
/// # Errors
///
/// The error of the failed step. Using `cancel` makes the runtime's exec fail.
pub(super) async fn start(
    shared: &Shared,
    plan: &ExecPlan,
    runc: &Runc,
    cancel: &Cancel,
) -> Result<(ProcessIo, Child), TaskError> {
    // A logger receives the id of the exec as the container's id, as from containerd's own shim.
    let identity = LoggerIdentity { namespace: &shared.namespace, container_id: &plan.exec_id };
    // A logger may take 30 s to start.
    let mut io = tokio::select! {
        biased;
        () = cancel.cancelled() => {
            let cancelled = RuntimeError::Cancelled { verb: "exec" };
            return Err(runtime("OCI runtime exec failed")(cancelled));
        }
        io = ProcessIo::open(&plan.stdio, plan.owner, identity, &shared.reaper) => io?,
    };
    let files = ExecFiles::write(plan).await?;
    let child = run(shared, plan, runc, cancel, &mut io, &files).await;
    files.scratch.remove().await;
    let child = child?;
    // The output goes to the client only from here on: before, it could be the runtime's error
    // message.
    if let Err(error) = io.release().await {
        // The client receives an error, so it would never end this process.
        let _ = shared.reaper.raw_signal(child.pid, nix::libc::SIGKILL);
        return Err(error.into());
    }
    Ok((io, child))
}

/// Runs the runtime's exec with these files.
async fn run(
    shared: &Shared,
    plan: &ExecPlan,
    runc: &Runc,
    cancel: &Cancel,
    io: &mut ProcessIo,
    files: &ExecFiles,
) -> Result<Child, TaskError> {
    let stdio = io.child();
    let socket = io.console_socket().map(Path::to_owned);
    // Dropped after the observer has received the pid of the exec's process: until then it cannot
    // distinguish this process from those of the runtime.
    let call = plan.watched.as_ref().map(|watched| watched.runtime_call(Some(&plan.exec_id)));
    let arguments = Exec {
        process: &files.process,
        pid_file: &files.pid,
        console_socket: socket.as_deref(),
        stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
        observed: call.as_deref(),
    };
    // A short exec can end before its pid file is read. The guard makes the reaper keep that exit.
    let keep_exits = shared.reaper.keep_exits();
    if let Err(source) = runc.exec(&plan.container_id, arguments, cancel).await {
        return Err(runtime_error("OCI runtime exec failed", source, io));
    }
    let child = take_over(&shared.reaper, &files.pid, "exec").await?;
    drop(keep_exits);
    if let Some(watched) = &plan.watched {
        watched.exec_started(&plan.exec_id, child.pid);
    }
    drop(call);
    Ok(child)
}

/// The two files of one call of the runtime's exec. They are in a directory of the call's own,
/// because a name in the bundle could be that of another file: `init.pid` for an exec `init`.
struct ExecFiles {
    process: PathBuf,
    pid: PathBuf,
    scratch: Scratch,
}

impl ExecFiles {
    async fn write(plan: &ExecPlan) -> Result<Self, TaskError> {
        let (bundle, document) = (plan.bundle.clone(), plan.process.clone());
        let pid_file = format!("{}.pid", plan.exec_id);
        let write = move || {
            let error = |path: &Path| {
                let path = path.to_owned();
                move |source| BundleError { action: "write", path, source }
            };
            let scratch = Scratch::make(&bundle).map_err(error(&bundle))?;
            let process = scratch.file("process.json");
            regular_file::write(&process, &document).map_err(error(&process))?;
            let pid = scratch.file(&pid_file);
            Ok::<_, BundleError>(Self { process, pid, scratch })
        };
        blocking(Work::File, write).await
    }
}

impl ExecRequest {
    /// The process document of a request: `spec`, with its field `terminal` replaced by the
    /// argument.
    ///
    /// # Errors
    ///
    /// [`TaskError::Invalid`] if `spec` is not a JSON object.
    pub(crate) fn document(spec: &[u8], terminal: bool) -> Result<Vec<u8>, TaskError> {
        let invalid = |why: String| TaskError::Invalid { what: "process spec", why };
        let mut document: serde_json::Value =
            serde_json::from_slice(spec).map_err(|error| invalid(error.to_string()))?;
        let object = document.as_object_mut().ok_or_else(|| invalid("not a JSON object".into()))?;
        object.insert("terminal".into(), terminal.into());
        serde_json::to_vec(&document).map_err(|error| invalid(error.to_string()))
    }
}
