//! From an added exec to a running one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    command::ExecRequest,
    create::{runtime_error, take_over},
};
use crate::{
    model::Watched,
    reaper::Child,
    runc::{Cancel, Exec, Runc},
    task::{
        TaskError,
        io::{For, Owner, ProcessIo, Stdio},
        supervisor::Shared,
    },
};

/// What an exec's start needs, whoever owns the container meanwhile.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) container_id: String,
    pub(super) exec_id: String,
    pub(super) bundle: PathBuf,
    pub(super) owner: Owner,
    pub(super) stdio: Stdio,
    /// The OCI process document.
    pub(super) process: Vec<u8>,
    pub(super) watched: Option<Arc<dyn Watched>>,
}

/// Runs an exec to where its process is the shim's child, or leaves nothing of it.
pub(super) async fn start(
    shared: &Shared,
    plan: &Plan,
    runc: &Runc,
    cancel: &Cancel,
) -> Result<(ProcessIo, Child), TaskError> {
    let whom = For { namespace: &shared.namespace, container_id: &plan.exec_id };
    let mut io = ProcessIo::open(&plan.stdio, plan.owner, whom, &shared.reaper).await?;
    let stdio = io.child();
    let socket = io.console_socket().map(Path::to_owned);
    let files = Files::write(plan)?;
    let spawned = |pid| {
        if let Some(watched) = &plan.watched {
            watched.runtime_exec(&plan.exec_id, pid);
        }
    };
    let with = Exec {
        process: &files.process,
        pid_file: &files.pid,
        console_socket: socket.as_deref(),
        stdio: [stdio.stdin, stdio.stdout, stdio.stderr],
        spawned: Some(&spawned),
    };
    let expecting = shared.reaper.expecting();
    if let Err(source) = runc.exec(&plan.container_id, with, cancel).await {
        return Err(runtime_error("OCI runtime exec failed", source, &io));
    }
    let child = take_over(&shared.reaper, &files.pid, "exec")?;
    drop(expecting);
    if let Some(watched) = &plan.watched {
        watched.exec_started(&plan.exec_id, child.pid);
    }
    io.release().await?;
    Ok((io, child))
}

/// The two files of a runtime's exec; nobody needs them afterwards.
struct Files {
    process: PathBuf,
    pid: PathBuf,
}

impl Files {
    fn write(plan: &Plan) -> Result<Self, TaskError> {
        let files = Self {
            process: plan.bundle.join(format!("{}.process.json", plan.exec_id)),
            pid: plan.bundle.join(format!("{}.pid", plan.exec_id)),
        };
        let error = |source| crate::bundle::BundleError {
            action: "write",
            path: files.process.clone(),
            source,
        };
        // A few kilobytes on the bundle's filesystem.
        fs::write(&files.process, &plan.process).map_err(error)?;
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.process);
        let _ = fs::remove_file(&self.pid);
    }
}

impl ExecRequest {
    /// The process document with the terminal that the request asks for, whatever it said itself.
    ///
    /// # Errors
    ///
    /// [`TaskError::Invalid`] for what is no JSON object.
    pub(crate) fn document(spec: &[u8], terminal: bool) -> Result<Vec<u8>, TaskError> {
        let invalid = |why: String| TaskError::Invalid { what: "process spec", why };
        let mut document: serde_json::Value =
            serde_json::from_slice(spec).map_err(|error| invalid(error.to_string()))?;
        let object = document.as_object_mut().ok_or_else(|| invalid("not a JSON object".into()))?;
        object.insert("terminal".into(), terminal.into());
        serde_json::to_vec(&document).map_err(|error| invalid(error.to_string()))
    }
}
