//! What the shim tells of its containers.

use std::{collections::HashMap, sync::Arc};

use super::{Capability, Ended, Parent, Port, Process, ProcessKey};

/// One event, after redaction and before it has a seq.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `CLOCK_MONOTONIC` at the kernel's event, in nanoseconds; when it was noticed, for what the
    /// kernel has no event of.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME` of the same moment, in nanoseconds since 1970.
    pub realtime_ns: u64,
    /// How far what it says can be trusted.
    pub grade: Grade,
    /// What saw it.
    pub source: Backend,
    /// The container; `None` for what concerns the whole shim.
    pub container: Option<Arc<Container>>,
    /// What happened.
    pub body: Body,
}

/// A container, as each of its events names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's id.
    pub id: String,
    /// Its cgroup, as a path under the hierarchy's root.
    pub cgroup: String,
    /// Where Kubernetes made it.
    pub kubernetes: Option<Kubernetes>,
}

/// What Kubernetes calls a container: annotations of containerd's CRI plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// `io.kubernetes.cri.sandbox-namespace`.
    pub namespace: String,
    /// `io.kubernetes.cri.sandbox-name`.
    pub pod_name: String,
    /// `io.kubernetes.cri.sandbox-uid`.
    pub pod_uid: String,
    /// `io.kubernetes.cri.container-name`; empty for the sandbox itself.
    pub container_name: String,
}

impl Kubernetes {
    /// What the annotations of a container say; `None` outside Kubernetes.
    #[must_use]
    pub fn from_annotations(annotations: &HashMap<String, String>) -> Option<Self> {
        let of = |name: &str| {
            annotations.get(&format!("io.kubernetes.cri.{name}")).cloned().unwrap_or_default()
        };
        let found = Self {
            namespace: of("sandbox-namespace"),
            pod_name: of("sandbox-name"),
            pod_uid: of("sandbox-uid"),
            container_name: of("container-name"),
        };
        (found != Self::default()).then_some(found)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// A process was made; it still runs its parent's image.
    Fork(Arc<Process>),
    /// A process whose start was told (or whose fork was not seen) runs a new image.
    Exec(Arc<Process>),
    /// A process runs the first image of its own: fork and exec paired.
    Start(Arc<Process>),
    /// A thread group's last thread ended.
    Exit {
        /// Who.
        process: Arc<Process>,
        /// How; `None` where only its absence was noticed.
        ended: Option<Ended>,
        /// Whether the kernel's OOM killer ended it.
        oom_killed: bool,
    },
    /// A process is dead and reaped, and nobody who descends from it holds its output.
    Done {
        /// Who.
        process: Arc<Process>,
        /// How long after its exit, in nanoseconds.
        after_exit_ns: u64,
    },
    /// A dead process's output is still held, told once where it takes long.
    Held {
        /// Who.
        process: Arc<Process>,
        /// By whom.
        holders: Vec<Parent>,
    },
    /// The kernel's OOM killer chose a process.
    OomKill(Arc<Process>),
    /// A container is watched from here on.
    ContainerStart {
        /// Its first process.
        init: ProcessKey,
    },
    /// Nothing more comes of a container. `seen == delivered + lost`.
    ContainerClose(Counts),
    /// Events are missing here.
    Gap(Gap),
    /// Events were left out of containerd's bus to protect it; the stream has them.
    Throttle {
        /// How many.
        withheld: u64,
        /// Over how many nanoseconds.
        over_ns: u64,
    },
    /// What can be observed has changed.
    Capability(Capability),
    /// A port has its first listener.
    PortOpen(Arc<Port>),
    /// A port has lost its last listener.
    PortClose(Arc<Port>),
    /// A container has been quiet for as long as was asked for: no exec ran, no connection was
    /// established, no input came.
    ContainerIdle {
        /// For how many nanoseconds.
        quiet_ns: u64,
    },
    /// One that was idle no longer is.
    ContainerActive {
        /// Why.
        cause: Activity,
    },
}

/// The types, in the order of their bits in a filter.
pub const EVENT_TYPES: [&str; 16] = [
    "process.fork",
    "process.exec",
    "process.start",
    "process.exit",
    "process.done",
    "process.held",
    "process.oom_kill",
    "container.start",
    "container.close",
    "observer.gap",
    "observer.throttle",
    "observer.capability",
    "port.open",
    "port.close",
    "container.idle",
    "container.active",
];

impl Body {
    /// The index of its type in [`EVENT_TYPES`].
    #[must_use]
    pub fn kind(&self) -> usize {
        match self {
            Self::Fork(_) => 0,
            Self::Exec(_) => 1,
            Self::Start(_) => 2,
            Self::Exit { .. } => 3,
            Self::Done { .. } => 4,
            Self::Held { .. } => 5,
            Self::OomKill(_) => 6,
            Self::ContainerStart { .. } => 7,
            Self::ContainerClose(_) => 8,
            Self::Gap(_) => 9,
            Self::Throttle { .. } => 10,
            Self::Capability(_) => 11,
            Self::PortOpen(_) => 12,
            Self::PortClose(_) => 13,
            Self::ContainerIdle { .. } => 14,
            Self::ContainerActive { .. } => 15,
        }
    }

    /// Its type, as events name it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        EVENT_TYPES[self.kind()]
    }

    /// The process that it is about.
    #[must_use]
    pub fn process(&self) -> Option<&Arc<Process>> {
        match self {
            Self::Fork(process)
            | Self::Exec(process)
            | Self::Start(process)
            | Self::Exit { process, .. }
            | Self::Done { process, .. }
            | Self::Held { process, .. }
            | Self::OomKill(process) => Some(process),
            Self::ContainerStart { .. }
            | Self::ContainerClose(_)
            | Self::Gap(_)
            | Self::Throttle { .. }
            | Self::Capability(_)
            | Self::PortOpen(_)
            | Self::PortClose(_)
            | Self::ContainerIdle { .. }
            | Self::ContainerActive { .. } => None,
        }
    }
}

/// What ends a container's quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activity {
    /// An exec was asked for.
    Exec,
    /// A connection was established.
    Connection,
    /// Its first process got input from a client.
    Input,
}

impl Activity {
    /// The word that events use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Connection => "connection",
            Self::Input => "input",
        }
    }
}

/// How far an event can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Grade {
    /// Everything was read in the kernel, at the event.
    Exact,
    /// The event is the kernel's; the rest was read from `/proc` after it, of the same process.
    Late,
    /// The event is the kernel's; something of the rest is missing, and the event says why.
    Partial,
    /// No event: a look at `/proc` found it so. Its time is that of the look.
    Snapshot,
}

impl Grade {
    /// The word that events use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Late => "late",
            Self::Partial => "partial",
            Self::Snapshot => "snapshot",
        }
    }
}

/// What sees processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// The pinned eBPF programs and a ring of this shim's own.
    Bpf,
    /// The kernel's proc connector, by the node's one listener.
    Connector,
    /// Looking at `/proc` again and again.
    Poll,
    /// The shim itself: what it asked for and what it reaped.
    Shim,
    /// A script, in tests of consumers.
    Mock,
}

impl Backend {
    /// The word that events and the configuration use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Connector => "connector",
            Self::Poll => "poll",
            Self::Shim => "shim",
            Self::Mock => "mock",
        }
    }
}

/// A container's account, in records of the kernel source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What the kernel's program counted, before it reserved room in the ring, without
    /// [`runtime`](Self::runtime). `None` where the source does not count.
    pub seen: Option<u64>,
    /// What was given a seq.
    pub delivered: u64,
    /// What had no room. `None` where the source does not count.
    pub lost: Option<u64>,
    /// Records of the runtime's own stages, which no event shows.
    pub runtime: u64,
}

/// A hole in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many records; `None` where nobody counted.
    pub lost: Option<u64>,
    /// Where.
    pub stage: Stage,
    /// The last moment before the hole, `CLOCK_MONOTONIC` in nanoseconds.
    pub from_ns: u64,
    /// The first moment after it.
    pub to_ns: u64,
}

/// Where records can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The kernel's ring or socket buffer was full.
    Kernel,
    /// A source was replaced by another, or began late.
    Source,
    /// The observer's own thread failed.
    Observer,
    /// The journal no longer has what a cursor asks for.
    Journal,
    /// One subscriber was too slow: its own loss only.
    Subscriber,
}

impl Stage {
    /// The word that events use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Source => "source",
            Self::Observer => "observer",
            Self::Journal => "journal",
            Self::Subscriber => "subscriber",
        }
    }
}
