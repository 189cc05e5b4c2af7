//! The JSON form of a process, of a listed process, and of the probe format.

use serde::Serialize;

use super::{Attribution, Id, is_false};
use crate::{
    api::{self, event::Body},
    model::{escaped, lossless, rfc3339},
};

/// An object of the probe format: a process began to run an image.
#[derive(Debug, Serialize)]
pub struct Probe {
    pid: i32,
    command: String,
    timestamp: String,
}

/// A process of a container, as `ps` lists it.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    attribution: Attribution,
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    process: Process,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Process {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_pid: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_args: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    args_truncated: bool,
    #[serde(skip_serializing_if = "is_false")]
    args_redacted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linux: Option<Linux>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_killed: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    unknown: String,
    #[serde(skip_serializing_if = "is_false")]
    escaped: bool,
}

/// The fields of a process that OpenTelemetry defines for Linux only.
#[derive(Debug, Serialize)]
struct Linux {
    cgroup: String,
}

/// Another process that an event names: the parent, or a holder of the output.
#[derive(Debug, Serialize)]
pub(super) struct Parent {
    pid: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
}

#[derive(Debug, Serialize)]
struct Exit {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    signal: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Path {
    pub(super) path: String,
    /// Whether the file was removed, or never had a name.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) deleted: bool,
}

#[derive(Debug, Serialize)]
struct Time {
    time: String,
}

impl From<&api::ContainerProcess> for Listed {
    fn from(listed: &api::ContainerProcess) -> Self {
        let process = listed.process.get_or_default();
        Self {
            attribution: Attribution::of(listed.container.as_ref(), &process.exec_id),
            origin: process.origin.clone(),
            process: Process::of(process),
        }
    }
}

impl Probe {
    /// The probe object of a `process.start` or `process.exec` event; `None` for all other events.
    #[must_use]
    pub fn of(event: &api::Event) -> Option<Self> {
        let Some(Body::Process(process)) = &event.body else { return None };
        if !matches!(event.type_.as_str(), "process.start" | "process.exec") {
            return None;
        }
        let command = if process.args.is_empty() {
            process.executable.clone().unwrap_or_default()
        } else {
            process.args.join(&b' ')
        };
        let command = lossless(&command).into_owned();
        Some(Self { pid: process.pid, command, timestamp: rfc3339(event.time_ns) })
    }
}

impl Process {
    /// A process of which only the pid is known.
    pub(super) fn of_pid(pid: i32) -> Self {
        Self { pid, ..Default::default() }
    }

    pub(super) fn of(process: &api::Process) -> Self {
        let is_escaped = is_escaped(process);
        let text = if is_escaped { escaped } else { plain };
        // In protobuf, an empty list is the same as an absent list. So `args_count` distinguishes a
        // process without arguments from a process with unknown arguments.
        let knows_args = !process.args.is_empty() || process.args_count.is_some();
        Self {
            pid: process.pid,
            vpid: process.vpid,
            parent_pid: (process.parent_pid != 0).then_some(process.parent_pid),
            entity_id: process.entity_id.clone(),
            comm: process.comm.as_deref().map(text),
            executable: process
                .executable
                .as_ref()
                .map(|path| Path { path: text(path), deleted: process.executable_deleted }),
            command_args: knows_args.then(|| process.args.iter().map(|arg| text(arg)).collect()),
            args_count: process.args_count,
            args_bytes: process.args_bytes.filter(|_| process.args_truncated),
            args_truncated: process.args_truncated,
            args_redacted: process.args_redacted,
            working_directory: process.working_directory.as_deref().map(text),
            user: process.uid.map(|id| Id { id }),
            group: process.gid.map(|id| Id { id }),
            linux: (!process.cgroup.is_empty()).then(|| Linux { cgroup: process.cgroup.clone() }),
            creation: (process.created_ns != 0).then(|| Time { time: rfc3339(process.created_ns) }),
            parent: process.parent.as_ref().map(|parent| Parent::of(parent, text)),
            exit: process.ended.as_ref().and_then(|ended| {
                let is_known = ended.code.is_some() || !ended.signal.is_empty();
                is_known.then(|| Exit { code: ended.code, signal: ended.signal.clone() })
            }),
            oom_killed: process.ended.as_ref().map(|ended| ended.oom_killed),
            unknown: process.unknown.clone(),
            escaped: is_escaped,
        }
    }
}

impl Parent {
    /// The processes that hold the output of an exited process.
    pub(super) fn holders_of(process: &api::Process) -> Vec<Self> {
        let text = if is_escaped(process) { escaped } else { plain };
        process.holders.iter().map(|holder| Self::of(holder, text)).collect()
    }

    fn of(parent: &api::Parent, text: fn(&[u8]) -> String) -> Self {
        Self {
            pid: parent.pid,
            entity_id: parent.entity_id.clone(),
            executable: parent
                .executable
                .as_ref()
                .map(|path| Path { path: text(path), deleted: false }),
        }
    }
}

/// Whether any text of a process, of its parent or of its holders is not UTF-8.
fn is_escaped(process: &api::Process) -> bool {
    let api::Process { executable, args, working_directory, comm, parent, holders, .. } = process;
    let parents = parent.iter().chain(holders).filter_map(|parent| parent.executable.as_ref());
    let own = executable.iter().chain(working_directory).chain(comm).chain(args);
    own.chain(parents).any(|bytes| std::str::from_utf8(bytes).is_err())
}

/// Converts bytes that are known to be UTF-8.
pub(super) fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
