//! Conversion between containerd's protobuf messages and the shim's own types.

use std::{path::PathBuf, time::SystemTime};

use containerd_shim_protos::{
    api,
    protobuf::{
        EnumOrUnknown, Message as _, MessageField,
        well_known_types::{any::Any, timestamp::Timestamp},
    },
    shim::oci::ProcessDetails,
};

use super::{
    TaskError,
    container::{
        CreateRequest, Deleted, ExecRequest, ListedProcess, ProcessEnd, StateAnswer, Status,
    },
    io::Stdio,
    rootfs::Mount,
};
use crate::{publish::timestamp, runc::Options};

/// The result of decoding a request.
type Result<T> = std::result::Result<T, TaskError>;

impl TryFrom<api::CreateTaskRequest> for CreateRequest {
    type Error = TaskError;

    fn try_from(request: api::CreateTaskRequest) -> Result<Self> {
        check_id("container id", &request.id)?;
        let bundle = PathBuf::from(&request.bundle);
        if !bundle.is_absolute() {
            return Err(TaskError::Invalid {
                what: "bundle",
                why: format!("{:?} is not an absolute path", request.bundle),
            });
        }
        Ok(Self {
            options: Options::decode(request.options.as_ref())?,
            rootfs: request.rootfs.into_iter().map(mount).collect(),
            stdio: Stdio {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
            checkpoint: request.checkpoint,
            parent_checkpoint: request.parent_checkpoint,
            id: request.id,
            bundle,
        })
    }
}

impl TryFrom<api::ExecProcessRequest> for ExecRequest {
    type Error = TaskError;

    fn try_from(request: api::ExecProcessRequest) -> Result<Self> {
        check_id("exec id", &request.exec_id)?;
        let spec = request.spec.into_option().unwrap_or_default();
        Ok(Self {
            process: Self::document(&spec.value, request.terminal)?,
            stdio: Stdio {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
            exec_id: request.exec_id,
        })
    }
}

/// Checks an id by containerd's own rule. Ids become file names and arguments of the runtime, and
/// the rule excludes slashes, leading dots and leading dashes.
fn check_id(what: &'static str, id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let starts_alphanumeric = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_alphanumeric && id.len() <= 255 && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(TaskError::Invalid {
        what,
        why: format!("{id:.80?} must match [A-Za-z0-9][A-Za-z0-9_.-]*"),
    })
}

fn mount(mount: api::Mount) -> Mount {
    Mount { kind: mount.type_, source: mount.source, target: mount.target, options: mount.options }
}

/// The answer to State. Fields without a value are the zero values that the Go shim sends.
pub(super) fn state(id: String, exec_id: String, snapshot: StateAnswer) -> api::StateResponse {
    let status = match snapshot.status {
        Status::Created => api::Status::CREATED,
        Status::Running => api::Status::RUNNING,
        Status::Stopped => api::Status::STOPPED,
        Status::Paused => api::Status::PAUSED,
        Status::Pausing => api::Status::PAUSING,
    };
    api::StateResponse {
        // The id is that of the requested process, as from the Go shim.
        id: if exec_id.is_empty() { id } else { exec_id },
        bundle: snapshot.bundle.to_string_lossy().into_owned(),
        pid: pid(snapshot.pid),
        status: EnumOrUnknown::new(status),
        stdin: snapshot.stdio.stdin,
        stdout: snapshot.stdio.stdout,
        stderr: snapshot.stdio.stderr,
        terminal: snapshot.stdio.terminal,
        exit_status: snapshot.exit.map_or(0, |exit| exit.status()),
        exited_at: exited_at(snapshot.exit.map(|exit| exit.timestamp)),
        ..Default::default()
    }
}

pub(super) fn deleted(deleted: Deleted) -> api::DeleteResponse {
    api::DeleteResponse {
        pid: pid(deleted.pid),
        exit_status: deleted.end.map_or(0, |end| end.ended.status()),
        exited_at: exited_at(deleted.end.map(|end| end.timestamp)),
        ..Default::default()
    }
}

pub(super) fn waited(end: ProcessEnd) -> api::WaitResponse {
    api::WaitResponse {
        exit_status: end.ended.status(),
        exited_at: exited_at(Some(end.timestamp)),
        ..Default::default()
    }
}

/// One entry of the answer to Pids; only an exec has details.
pub(super) fn process(process: ListedProcess) -> api::ProcessInfo {
    let info = process.exec_id.map(|exec_id| {
        // `ctr task ps` can print only this type.
        let details = ProcessDetails { exec_id, ..Default::default() };
        let value = details.write_to_bytes().unwrap_or_default();
        Any { type_url: "containerd.runc.v1.ProcessDetails".into(), value, ..Default::default() }
    });
    api::ProcessInfo {
        pid: process.pid.unwrap_or_default(),
        info: MessageField::from_option(info),
        ..Default::default()
    }
}

/// A pid in the type of the messages. 0 means that there is no process.
pub(super) fn pid(pid: Option<i32>) -> u32 {
    pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default()
}

/// The time of an exit. Before the exit it is Go's zero time, because clients check it with
/// `IsZero`.
fn exited_at(exited: Option<SystemTime>) -> MessageField<Timestamp> {
    /// January 1 of year 1, in seconds since 1970.
    const GO_ZERO_TIME: i64 = -62_135_596_800;
    let zero = Timestamp { seconds: GO_ZERO_TIME, ..Default::default() };
    MessageField::some(exited.map_or(zero, timestamp))
}
