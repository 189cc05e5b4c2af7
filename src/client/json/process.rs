//! The JSON form of a process, of a listed process, and of the probe format.

use serde::Serialize;

use super::{Attribution, Id, is_false};
use crate::{
    api::{self, event::Body},
    model::{escaped, lossless, rfc3339},
};

/// A line of the probe format: a process began to run an image.
#[derive(Debug, Serialize)]
pub struct ProbeObject {
    pid: i32,
    command: String,
    timestamp: String,
}

/// A living process of a container, as `lookout ps` lists it.
#[derive(Debug, Serialize)]
pub struct ListedProcess {
    #[serde(flatten)]
    attribution: Attribution,
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    process: Process,
}

/// A process, as events and lists show it.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Process {
    /// The pid in the pid namespace of the shim.
    pid: i32,
    /// The pid in the process's own pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpid: Option<i32>,
    /// The pid of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_pid: Option<i32>,
    /// The identity of the process, which is never reused: 32 bits of the boot id, the pid and the
    /// start, hexadecimal. Absent if the start is unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    /// The name of the task, at most 15 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<String>,
    /// The executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
    /// The arguments as far as they were captured, after redaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_args: Option<Vec<String>>,
    /// The real number of arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    args_count: Option<u32>,
    /// The real size of the arguments in bytes. Only with `args_truncated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    args_bytes: Option<u64>,
    /// Whether `command_args` is incomplete. Absent if not.
    #[serde(skip_serializing_if = "is_false")]
    args_truncated: bool,
    /// Whether redaction replaced a part of `command_args`. Absent if not.
    #[serde(skip_serializing_if = "is_false")]
    args_redacted: bool,
    /// The working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<String>,
    /// The effective user, as the id on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id<u32>>,
    /// The effective group, as the id on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id<u32>>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    linux: Option<Linux>,
    /// When the process was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    creation: Option<Time>,
    /// The parent at the time of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    /// `process.exit`: how the process ended. Absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    /// `process.exit`: whether the kernel's OOM killer chose the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_killed: Option<bool>,
    /// Why a part is absent: `gone`, `replaced`, `denied`, `faulted`, `not_seen` or `dropped`.
    /// Absent if no part is.
    #[serde(skip_serializing_if = "String::is_empty")]
    unknown: String,
    /// Whether a text of the process is not UTF-8. Then, in all its texts, such bytes are written
    /// as `\xHH` and backslashes are doubled. Absent if not.
    #[serde(skip_serializing_if = "is_false")]
    escaped: bool,
}

/// The fields of a process that OpenTelemetry defines for Linux only.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Linux {
    /// The path of the cgroup below the root of the hierarchy.
    cgroup: String,
}

/// Another process that an event names: the parent, or a holder of the output.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Parent {
    /// The pid.
    pid: i32,
    /// As `process.entity_id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    /// The executable. Absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
}

/// How a process ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Exit {
    /// The exit code. Absent if a signal ended the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    /// The signal, such as `SIGKILL`. Absent if no signal ended the process.
    #[serde(skip_serializing_if = "String::is_empty")]
    signal: String,
}

/// The executable of a process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Path {
    /// The path as seen from the root directory of the container.
    pub(super) path: String,
    /// Whether the file was removed, or never had a name.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) deleted: bool,
}

/// An object that has only a time.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Time {
    /// The time; RFC 3339, UTC.
    time: String,
}

impl From<&api::ContainerProcess> for ListedProcess {
    fn from(listed: &api::ContainerProcess) -> Self {
        let process = listed.process.get_or_default();
        Self {
            attribution: Attribution::of(listed.container.as_ref(), &process.exec_id),
            origin: process.origin.clone(),
            process: Process::of(process),
        }
    }
}

impl ProbeObject {
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
    /// Describes a process of which only the pid is known.
    pub(super) fn of_pid(pid: i32) -> Self {
        Self { pid, ..Default::default() }
    }

    pub(super) fn of(process: &api::Process) -> Self {
        let is_escaped = needs_escaping(process);
        let text = if is_escaped { escaped } else { utf8_text };
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
    /// Other processes that an event about a process names.
    pub(super) fn all_of(named: &[api::Parent], process: &api::Process) -> Vec<Self> {
        let text = if needs_escaping(process) { escaped } else { utf8_text };
        named.iter().map(|one| Self::of(one, text)).collect()
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
fn needs_escaping(process: &api::Process) -> bool {
    let api::Process { executable, args, working_directory, comm, parent, holders, .. } = process;
    let parents = parent.iter().chain(holders).filter_map(|parent| parent.executable.as_ref());
    let own = executable.iter().chain(working_directory).chain(comm).chain(args);
    own.chain(parents).any(|bytes| std::str::from_utf8(bytes).is_err())
}

/// Converts bytes that are known to be UTF-8 to a string.
pub(super) fn utf8_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
