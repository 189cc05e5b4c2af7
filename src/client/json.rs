//! Events and their parts as JSON.
//!
//! Nested so that the dotted path is OpenTelemetry's name. Absent: does not apply, or is not known
//! and the event's grade says so. `null`: nobody counted. Every character that does something to a
//! terminal is `\uXXXX`, and bytes that are not UTF-8 are escaped as [`escaped`] says, with
//! `"escaped": true` on the process; there every text that began as bytes is escaped, so that none
//! is ambiguous.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use super::text::{is_hostile, lossless};
use crate::{
    api::{self, event::Body},
    model::{self, escaped, rfc3339},
};

/// JSON in one line. Without control characters, whatever is in it.
///
/// # Panics
///
/// Never: the types of this module have text for keys.
#[must_use]
pub fn line(value: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Harmless);
    value.serialize(&mut serializer).expect("text keys, and a vector takes every byte");
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

/// Compact, and with hostile characters escaped: serde_json leaves DEL, C1 and what is above them.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hostile) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = from.chars();
            let mut units = [0; 2];
            for unit in characters.next().unwrap_or_default().encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// An event.
#[derive(Debug, Serialize)]
pub struct Event {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    r#type: String,
    time: String,
    monotonic_ns: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    grade: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    epoch: String,
    #[serde(flatten)]
    whose: Whose,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_exit_ns: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<Parent>,
    #[serde(flatten)]
    port: Option<Port>,
    #[serde(flatten)]
    body: Option<Rest>,
}

/// Whose it is.
#[derive(Debug, Default, Serialize)]
struct Whose {
    #[serde(skip_serializing_if = "Option::is_none")]
    containerd: Option<Containerd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Id<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<Kubernetes>,
}

#[derive(Debug, Serialize)]
struct Containerd {
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    exec_id: String,
}

#[derive(Debug, Serialize)]
struct Id<T> {
    id: T,
}

#[derive(Debug, Serialize)]
struct Name {
    name: String,
}

#[derive(Debug, Serialize)]
struct Path {
    path: String,
}

#[derive(Debug, Serialize)]
struct Time {
    time: String,
}

#[derive(Debug, Serialize)]
struct Kubernetes {
    pod: Pod,
    namespace: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Name>,
}

#[derive(Debug, Serialize)]
struct Pod {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
}

#[derive(Debug, Default, Serialize)]
struct Process {
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

#[derive(Debug, Serialize)]
struct Linux {
    cgroup: String,
}

#[derive(Debug, Serialize)]
struct Parent {
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

/// A port, in OpenTelemetry's words as far as it has any.
#[derive(Debug, Serialize)]
struct Port {
    network: Network,
    port: Reach,
    owners: Vec<Owner>,
}

#[derive(Debug, Serialize)]
struct Network {
    transport: String,
    r#type: String,
    local: Local,
}

#[derive(Debug, Serialize)]
struct Local {
    address: String,
    port: u32,
}

#[derive(Debug, Serialize)]
struct Reach {
    scope: String,
    #[serde(skip_serializing_if = "is_false")]
    dual_stack: bool,
}

#[derive(Debug, Serialize)]
struct Owner {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpid: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
    #[serde(skip_serializing_if = "String::is_empty")]
    exec_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    container_id: String,
    #[serde(skip_serializing_if = "is_false")]
    escaped: bool,
}

/// What events without a process tell.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Rest {
    Close { seen: Option<u64>, delivered: u64, lost: Option<u64>, runtime: u64 },
    Gap { lost: Option<u64>, stage: String, from: u64, to: u64 },
    Idle { quiet_ns: u64 },
    Active { cause: String },
    Throttle { withheld: u64, over_ns: u64 },
    Capability { capability: Capability },
    Hello { schema_version: u32, capabilities: Vec<Capability>, begins_after: u64, shim: ShimId },
}

#[derive(Debug, Serialize)]
struct ShimId {
    id: String,
    version: String,
}

/// What can be observed in one category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// `lifecycle`, `file`, `network` or `process`.
    pub category: String,
    /// `supported`, `partial` or `unavailable`.
    pub support: String,
    /// By what.
    pub backend: String,
    /// Why.
    pub reason: String,
}

impl From<&model::Capability> for Capability {
    fn from(capability: &model::Capability) -> Self {
        let model::Capability { category, support, backend, reason } = capability;
        let (category, support) = (category.as_str().to_owned(), support.as_str().to_owned());
        Self { category, support, backend: backend.clone(), reason: reason.clone() }
    }
}

/// A process of a container, as `ps` lists it.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    whose: Whose,
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    process: Process,
}

/// An open port, as `ports` lists it.
#[derive(Debug, Serialize)]
pub struct OpenPort {
    #[serde(flatten)]
    whose: Whose,
    #[serde(flatten)]
    port: Port,
}

/// An exit as go-runc tells it.
#[derive(Debug, Serialize)]
pub struct Exited {
    timestamp: String,
    pid: i32,
    status: u32,
    #[serde(flatten)]
    whose: Whose,
}

/// The probe format: one process that began to run something.
#[derive(Debug, Serialize)]
pub struct Probe {
    pid: i32,
    command: String,
    timestamp: String,
}

impl From<&api::Event> for Event {
    fn from(event: &api::Event) -> Self {
        let mut json = Self {
            seq: (event.seq > 0).then_some(event.seq),
            r#type: event.type_.clone(),
            time: rfc3339(event.time_ns),
            monotonic_ns: event.monotonic_ns,
            grade: event.grade.clone(),
            source: event.source.clone(),
            epoch: event.epoch.clone(),
            whose: Whose::of(event.container.as_ref(), ""),
            labels: event.labels.clone(),
            origin: String::new(),
            process: None,
            status: None,
            after_exit_ns: None,
            holders: Vec::new(),
            port: None,
            body: None,
        };
        match &event.body {
            Some(Body::Process(process)) => {
                json.whose = Whose::of(event.container.as_ref(), &process.exec_id);
                json.origin = process.origin.clone();
                json.status = process.ended.as_ref().and_then(|ended| ended.status);
                json.after_exit_ns = process.after_exit_ns;
                let text = if is_escaped(process) { escaped } else { plain };
                json.holders =
                    process.holders.iter().map(|holder| Parent::of(holder, text)).collect();
                json.process = Some(Process::of(process));
            }
            Some(Body::ContainerStart(start)) => {
                json.process = Some(Process { pid: start.init_pid, ..Default::default() });
            }
            Some(Body::ContainerClose(close)) => {
                let &api::ContainerClose { seen, delivered, lost, runtime, .. } = close;
                json.body = Some(Rest::Close { seen, delivered, lost, runtime });
            }
            Some(Body::Gap(gap)) => {
                let &api::Gap { lost, from_ns: from, to_ns: to, .. } = gap;
                json.body = Some(Rest::Gap { lost, stage: gap.stage.clone(), from, to });
            }
            Some(Body::Throttle(throttle)) => {
                json.body =
                    Some(Rest::Throttle { withheld: throttle.withheld, over_ns: throttle.over_ns });
            }
            Some(Body::Capability(capability)) => {
                json.body = Some(Rest::Capability { capability: capability.into() });
            }
            Some(Body::Hello(hello)) => {
                json.body = Some(Rest::Hello {
                    schema_version: hello.schema_version,
                    capabilities: hello.capabilities.iter().map(Capability::from).collect(),
                    begins_after: hello.seq,
                    shim: ShimId { id: hello.shim_id.clone(), version: hello.version.clone() },
                });
            }
            Some(Body::ContainerIdle(idle)) => {
                json.body = Some(Rest::Idle { quiet_ns: idle.quiet_ns })
            }
            Some(Body::ContainerActive(active)) => {
                json.body = Some(Rest::Active { cause: active.cause.clone() })
            }
            Some(Body::Port(port)) => json.port = Some(Port::from(port)),
            // A body of a later schema: what is common is told.
            None => {}
        }
        json
    }
}

impl From<&api::Capability> for Capability {
    fn from(capability: &api::Capability) -> Self {
        let api::Capability { category, support, backend, reason, .. } = capability.clone();
        Self { category, support, backend, reason }
    }
}

impl From<&api::ContainerProcess> for Listed {
    fn from(listed: &api::ContainerProcess) -> Self {
        let process = listed.process.get_or_default();
        Self {
            whose: Whose::of(listed.container.as_ref(), &process.exec_id),
            origin: process.origin.clone(),
            process: Process::of(process),
        }
    }
}

impl From<&api::ContainerPort> for OpenPort {
    fn from(open: &api::ContainerPort) -> Self {
        Self {
            whose: Whose::of(open.container.as_ref(), ""),
            port: Port::from(open.port.get_or_default()),
        }
    }
}

impl From<&api::Port> for Port {
    fn from(port: &api::Port) -> Self {
        Self {
            network: Network {
                transport: port.transport.clone(),
                r#type: port.type_.clone(),
                local: Local { address: port.address.clone(), port: port.port },
            },
            port: Reach { scope: port.scope.clone(), dual_stack: port.dual_stack },
            owners: port.owners.iter().map(Owner::from).collect(),
        }
    }
}

impl From<&api::Owner> for Owner {
    fn from(owner: &api::Owner) -> Self {
        let path = owner.executable.as_deref();
        let is_escaped = path.is_some_and(|path| std::str::from_utf8(path).is_err());
        let text = if is_escaped { escaped } else { plain };
        Self {
            pid: owner.pid,
            vpid: owner.vpid,
            entity_id: owner.entity_id.clone(),
            executable: path.map(|path| Path { path: text(path) }),
            exec_id: owner.exec_id.clone(),
            container_id: owner.container_id.clone(),
            escaped: is_escaped,
        }
    }
}

impl Exited {
    /// From a shim of a namespace.
    #[must_use]
    pub fn new(exit: &api::Exit, namespace: &str) -> Self {
        let container = api::Container {
            namespace: namespace.to_owned(),
            id: exit.container_id.clone(),
            ..Default::default()
        };
        let timestamp = rfc3339(exit.timestamp_ns);
        Self {
            timestamp,
            pid: exit.pid,
            status: exit.status,
            whose: Whose::of(Some(&container), &exit.exec_id),
        }
    }
}

impl Probe {
    /// Of an event in which a process began to run something; `None` of others.
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

impl Whose {
    fn of(container: Option<&api::Container>, exec_id: &str) -> Self {
        let Some(container) = container else { return Self::default() };
        Self {
            containerd: Some(Containerd {
                namespace: container.namespace.clone(),
                exec_id: exec_id.to_owned(),
            }),
            container: Some(Id { id: container.id.clone() }),
            k8s: container.k8s.as_ref().map(|k8s| Kubernetes {
                pod: Pod { name: k8s.pod_name.clone(), uid: k8s.pod_uid.clone() },
                namespace: Name { name: k8s.namespace.clone() },
                container: (!k8s.container_name.is_empty())
                    .then(|| Name { name: k8s.container_name.clone() }),
            }),
        }
    }
}

impl Process {
    fn of(process: &api::Process) -> Self {
        let is_escaped = is_escaped(process);
        let text = if is_escaped { escaped } else { plain };
        let knows_args = !process.args.is_empty() || process.args_count.is_some();
        Self {
            pid: process.pid,
            vpid: process.vpid,
            parent_pid: (process.parent_pid != 0).then_some(process.parent_pid),
            entity_id: process.entity_id.clone(),
            comm: process.comm.as_deref().map(text),
            executable: process.executable.as_ref().map(|path| Path { path: text(path) }),
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
    fn of(parent: &api::Parent, text: fn(&[u8]) -> String) -> Self {
        Self {
            pid: parent.pid,
            entity_id: parent.entity_id.clone(),
            executable: parent.executable.as_ref().map(|path| Path { path: text(path) }),
        }
    }
}

/// Whether something of a process is not UTF-8.
fn is_escaped(process: &api::Process) -> bool {
    let api::Process { executable, args, working_directory, comm, parent, holders, .. } = process;
    let parents = parent.iter().chain(holders).filter_map(|parent| parent.executable.as_ref());
    let own = executable.iter().chain(working_directory).chain(comm).chain(args);
    own.chain(parents).any(|bytes| std::str::from_utf8(bytes).is_err())
}

/// Of bytes that [`is_escaped`] has seen to be UTF-8.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
