//! The events that subscribers receive.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Capability, Description, Ended, Parent, Port, Process, ProcessKey};

/// One event, after redaction and before it gets a sequence number.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `CLOCK_MONOTONIC` at the kernel's event, in nanoseconds. For a fact without a kernel event,
    /// the time at which the fact was noticed.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME` of the same moment, in nanoseconds since 1970.
    pub realtime_ns: u64,
    /// How exact the event is.
    pub grade: Grade,
    /// The source of the event.
    pub source: Backend,
    /// The container that the event belongs to; `None` for an event of the whole shim.
    pub container: Option<Arc<Container>>,
    /// What happened, with the facts of that kind of event.
    pub body: Body,
}

/// A container, as its events identify it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The containerd namespace of the container.
    pub namespace: String,
    /// The container's id in containerd.
    pub id: String,
    /// The container's cgroup, as a path under the root of the hierarchy.
    pub cgroup: String,
    /// What its configuration says about it.
    pub description: Description,
    /// The settings of the container that were ignored.
    pub ignored_settings: Arc<[IgnoredSetting]>,
}

/// A setting of a container that has no effect: the host does not allow it, or it is a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredSetting {
    /// The key as it was written; the key of an annotation with its prefix.
    pub key: String,
    /// The reason why the setting has no effect.
    pub reason: String,
}

/// The most holders of an output that an event names. Each may have a path of 4096 bytes, and an
/// event must not take the place of all others in the journal.
pub const HOLDERS_NAMED: usize = 32;

/// What happened: the body of an event, with the facts of that kind of event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// A process was created. It still runs its parent's image.
    Fork(Arc<Process>),
    /// A process began to run a new image, and either its start was reported before or its fork was
    /// not seen.
    Exec(Arc<Process>),
    /// A new process began to run an image of its own: a fork and an exec in one event.
    Start(Arc<Process>),
    /// The last thread of a thread group ended.
    Exit {
        /// The process, with the last image that it ran.
        process: Arc<Process>,
        /// How the process ended; `None` if only the absence of the process was noticed.
        ended: Option<Ended>,
        /// Whether the kernel's OOM killer ended the process.
        oom_killed: bool,
        /// The time from the fork of the process to its exit, in nanoseconds; `None` if the fork
        /// was not seen.
        run_time_ns: Option<u64>,
    },
    /// A process was reaped, and its output has ended: the shim's own pipes, or else no surviving
    /// descendant holds it.
    Done {
        /// The process that is done.
        process: Arc<Process>,
        /// The time from the process's exit until it was done, in nanoseconds.
        after_exit_ns: u64,
    },
    /// Other processes still hold the output of an exited process. Reported once for the exited
    /// process, and only if it is not done after a while.
    Held {
        /// The exited process that is not done.
        process: Arc<Process>,
        /// Processes that hold its stdout or stderr, at most [`HOLDERS_NAMED`].
        holders: Vec<Parent>,
        /// How many processes hold the output.
        holders_count: u32,
    },
    /// The process of an exec has exited, and processes that descend from it are alive.
    ExecLeft {
        /// The process of the exec.
        process: Arc<Process>,
        /// The living descendants that began first, at most [`HOLDERS_NAMED`].
        survivors: Vec<Parent>,
        /// How many descendants are alive.
        survivors_count: u32,
    },
    /// The kernel's OOM killer chose a process.
    OomKill(Arc<Process>),
    /// The container is observed from this event on.
    ContainerStart {
        /// The identity of the container's first process.
        init: ProcessKey,
    },
    /// The last event of a container. In the container's account, `seen == delivered + lost`.
    ContainerClose(RecordCounts),
    /// Events are missing at this position of the stream.
    Gap(Gap),
    /// Events were withheld from containerd's bus, to protect the bus. The event log has all of
    /// them.
    Throttle {
        /// The number of events withheld.
        withheld: u64,
        /// The length of the time in which these events were withheld, in nanoseconds.
        over_ns: u64,
    },
    /// How much of a category can be observed has changed.
    Capability(Capability),
    /// A port has its first listener.
    PortOpen(Arc<Port>),
    /// A port has lost its last listener.
    PortClose(Arc<Port>),
    /// The container is idle: no running exec, no established connection and no input for the
    /// configured time.
    ContainerIdle {
        /// Time without activity, in nanoseconds.
        quiet_ns: u64,
    },
    /// An idle container is active again.
    ContainerActive {
        /// The activity that ended the idle time.
        cause: Activity,
    },
}

/// Defines the event types from a table. A row says when an event of the type is reported, its
/// name, and its [`Body`]. The order is that of the bits in a filter.
macro_rules! event_types {
    ($($(#[doc = $doc:literal])+ $name:literal, $kind:ident = $body:pat,)+) => {
        /// The names of the event types, in the order of their bits in a filter.
        pub const EVENT_TYPES: [&str; [$($name),+].len()] = [$($name),+];

        /// When an event of each type is reported, for docs/reference/events.md.
        #[cfg(test)]
        pub(crate) const EVENT_DOCS: [&str; EVENT_TYPES.len()] = [$(concat!($($doc),+)),+];

        enum TypeIndex {
            $($kind,)+
        }

        impl Body {
            /// The index of the event's type in [`EVENT_TYPES`].
            #[must_use]
            pub fn type_index(&self) -> usize {
                match self { $($body => TypeIndex::$kind as usize,)+ }
            }
        }
    };
}

event_types! {
    /// A process was created.
    "process.fork", Fork = Body::Fork(_),
    /// A process runs another image, or the first one if its fork was not observed.
    "process.exec", Exec = Body::Exec(_),
    /// A process runs the first image of its own.
    "process.start", Start = Body::Start(_),
    /// The last thread of the process ended.
    "process.exit", Exit = Body::Exit { .. },
    /// The process was reaped, and no descendant holds its output.
    "process.done", Done = Body::Done { .. },
    /// Once, if a dead process is not done 10 s after its exit.
    "process.held", Held = Body::Held { .. },
    /// The command of an exec has ended, and processes that it started are alive; after its exit.
    "exec.left", ExecLeft = Body::ExecLeft { .. },
    /// The kernel's OOM killer ended the process; before its exit, from the source `bpf` only.
    "process.oom_kill", OomKill = Body::OomKill(_),
    /// The container is observed from here on; its program has not run yet, or a gap follows.
    "container.start", ContainerStart = Body::ContainerStart { .. },
    /// The container was deleted; the last event of the container, with its account.
    "container.close", ContainerClose = Body::ContainerClose(_),
    /// Events are missing here.
    "observer.gap", Gap = Body::Gap(_),
    /// Events were left out of containerd's bus.
    "observer.throttle", Throttle = Body::Throttle { .. },
    /// What can be observed of a category has changed.
    "observer.capability", Capability = Body::Capability(_),
    /// A port got its first socket: for TCP one that listens, for UDP one that is bound.
    "port.open", PortOpen = Body::PortOpen(_),
    /// The port lost its last socket.
    "port.close", PortClose = Body::PortClose(_),
    /// The container has been quiet for `idle_after`.
    "container.idle", ContainerIdle = Body::ContainerIdle { .. },
    /// An idle container is no longer idle.
    "container.active", ContainerActive = Body::ContainerActive { .. },
}

impl Body {
    /// The name of the event's type, from [`EVENT_TYPES`].
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        EVENT_TYPES[self.type_index()]
    }

    /// The process that the event is about; `None` for events of containers, ports and the
    /// observer.
    #[must_use]
    pub fn process(&self) -> Option<&Arc<Process>> {
        match self {
            Self::Fork(process)
            | Self::Exec(process)
            | Self::Start(process)
            | Self::Exit { process, .. }
            | Self::Done { process, .. }
            | Self::Held { process, .. }
            | Self::ExecLeft { process, .. }
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

/// The activity that ends a container's idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activity {
    /// A client requested an exec.
    Exec,
    /// A TCP connection to or from the container was established.
    Connection,
    /// The container's first process received input from a client.
    Input,
}

impl Activity {
    /// The name of the activity in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Connection => "connection",
            Self::Input => "input",
        }
    }
}

/// How exact an event is: whether its facts were read in the kernel or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Grade {
    /// All facts were read in the kernel at the time of the event.
    Exact,
    /// The kernel reported the event; other facts of the same process were read from `/proc` later.
    Late,
    /// The kernel reported the event; some facts are missing, and the event gives the reason.
    Partial,
    /// The kernel reported no event: a scan of `/proc` found the fact. The time is that of the
    /// scan.
    Snapshot,
}

impl Grade {
    /// The name of the grade, as events have it.
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

/// The source of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// The pinned eBPF programs, through the shim's own ring.
    Bpf,
    /// The kernel's proc connector, through the one listener of the node.
    Connector,
    /// Scans of `/proc` at an interval.
    Poll,
    /// The shim itself: the processes that it started and reaped.
    Shim,
    /// A script, for tests of subscribers.
    Mock,
}

impl Backend {
    /// The name of the source in events and in the configuration.
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

/// The account of a container: how many records the source has seen, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Records that the eBPF programs counted, each before they reserved space for it in the ring.
    /// Does not include the records in [`runtime`](Self::runtime). `None` if the source does not
    /// count.
    pub seen: Option<u64>,
    /// Records that became events with a sequence number.
    pub delivered: u64,
    /// Records that were lost because the ring was full. `None` if the source does not count.
    pub lost: Option<u64>,
    /// Records of stages of the runtime (`runc init`), which are never reported as events.
    pub runtime: u64,
}

/// A loss of records or events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The number of records lost; `None` if it is unknown.
    pub lost: Option<u64>,
    /// The stage at which the records or events were lost.
    pub stage: Stage,
    /// The last known time before the loss, in nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// The first known time after the loss, in nanoseconds of `CLOCK_MONOTONIC`.
    pub to_ns: u64,
}

/// A stage at which records or events can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// The kernel's ring or socket buffer was full.
    Kernel,
    /// A source was replaced by another source, or began to observe late.
    Source,
    /// The observer's thread failed, or its bounded memory was full.
    Observer,
    /// The event log no longer has the events at a subscriber's cursor.
    Journal,
    /// One subscriber was too slow. Other subscribers lost nothing.
    Subscriber,
}

impl Stage {
    /// The name of the stage in events.
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
