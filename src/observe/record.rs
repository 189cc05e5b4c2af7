//! The records that sources deliver: forks, execs, exits, sockets and losses, before attribution.
//!
//! Every source delivers the same type, so that one tracker serves all sources. A source sets only
//! the fields that it knows, and leaves the others `None`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Endpoint, FileId, Grade, Image, Lineage, NetworkNamespace, ProcessKey, Socket, Stage},
    platform::process,
};

/// The identity of a target in records: the id of a container's cgroup (the inode number of its
/// directory in the unified hierarchy), or a made-up number for a target without such a cgroup.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TargetId(pub u64);

impl TargetId {
    /// A made-up id, different for each `number`. Its top bit is set, which no cgroup id of the
    /// kernel reaches.
    #[must_use]
    pub const fn made_up(number: u64) -> Self {
        Self(number | 1 << 63)
    }

    /// A made-up id that neither this nor another process of the node uses. All observing processes
    /// share the eBPF maps of targets, so equal ids would mix up their records. The ids repeat
    /// after 131 072 calls.
    #[must_use]
    pub fn unique() -> Self {
        /// Counts the targets of this process.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let start = process::identify(pid.cast_signed()).map_or(0, ProcessKey::start_ticks);
        // A pid fits into 22 bits (PID_MAX_LIMIT). The low 24 bits of the start time separate this
        // process from an earlier process with the same pid.
        let (start, pid, number) =
            (start & 0xff_ffff, u64::from(pid) & 0x3f_ffff, number & 0x1_ffff);
        Self::made_up(start << 39 | pid << 17 | number)
    }

    /// Whether the id is made up and not the id of a cgroup.
    #[must_use]
    pub const fn is_made_up(self) -> bool {
        self.0 >> 63 == 1
    }
}

/// A place in the list of all living processes of a shim, for answers in pages. The default is the
/// place before the first process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The target of the last process before the place.
    pub target: TargetId,
    /// Where that process is among those of its target: the number of processes that were added to
    /// the target up to this one.
    pub serial: u64,
}

/// The text of `page` in requests.
impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.target.0, self.serial)
    }
}

impl Position {
    /// Parses what `Display` writes; empty text is the default. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (target, serial) = text.split_once(':')?;
        Some(Self { target: TargetId(target.parse().ok()?), serial: serial.parse().ok()? })
    }
}

/// A place in the list of all open ports of a shim, for answers in pages: that of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortPosition {
    /// The target of the port.
    pub target: TargetId,
    /// The port among those of its target.
    pub key: PortKey,
}

/// Identifies an open port among those of a target, in the order in which they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortKey {
    /// The port is only in the kernel's list of sockets; no event has reported it.
    pub listed_only: bool,
    /// The address of the port.
    pub endpoint: Endpoint,
    /// The network namespace of the port.
    pub network_namespace: NetworkNamespace,
}

/// The number of a call of the OCI runtime, within one shim. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u32);

/// Where a process comes from, by facts that a container cannot choose: the eBPF programs copy them
/// from the process that forks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The start of the process, in nanoseconds since boot: more exact than in its key.
    pub start_ns: u64,
    /// The call of the OCI runtime that the process descends from; `None` if it descends from none.
    pub call: Option<CallId>,
    /// Whether a process of the same target forked the process.
    pub is_born: bool,
    /// At an exec of a process with a call: whether the process is in the cgroup or in a pid
    /// namespace of the target.
    pub is_inside: bool,
}

/// One fact that a source delivers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Something happened to one process of a target.
    Process {
        /// The target that the process belongs to.
        target: TargetId,
        /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// How exact the facts of this record are.
        grade: Grade,
        /// The process. Its start is `None` if the source could not read it.
        key: ProcessKey,
        /// Where the process comes from; `None` if the source does not know.
        provenance: Option<Provenance>,
        /// What happened to the process.
        what: What,
    },
    /// A scan of the target in `/proc` began or is complete.
    Scan {
        /// The target that is scanned.
        target: TargetId,
        /// The time at which the scan began: `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// Whether the scan began or is complete.
        step: ScanStep,
    },
    /// A socket of a target began to listen.
    Listen {
        /// The target that the socket belongs to.
        target: TargetId,
        /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// The socket and its address.
        socket: Socket,
        /// The process that called listen(2).
        by: ProcessKey,
        /// The pid of that process in its own pid namespace; `None` if the source does not know it.
        vpid: Option<i32>,
    },
    /// A socket of a target no longer listens.
    Unlisten {
        /// The target that the socket belongs to.
        target: TargetId,
        /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// The socket. Its inode number is known here even if [`Record::Listen`] did not have it.
        socket: Socket,
    },
    /// A TCP connection of a target was established, which
    /// [`Source::await_connection`](super::source::Source::await_connection) had requested.
    Connected {
        /// The target that the connection belongs to.
        target: TargetId,
        /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
    },
    /// Records were lost.
    Lost {
        /// The target that lost records; `None` if the loss can concern every target of this
        /// source.
        target: Option<TargetId>,
        /// When the source noticed the loss: `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// How many records were lost; `None` if they were not counted.
        count: Option<u64>,
        /// Where the records were lost.
        stage: Stage,
    },
}

/// What happened to a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// The process was created. The record's `key` is the child.
    Fork(Lineage),
    /// The process runs a new image.
    Exec {
        /// Parent and session of the process.
        lineage: Lineage,
        /// What the process runs now.
        image: Arc<Image>,
        /// The id of the process's cgroup; `None` if that is the target's own cgroup.
        cgroup: Option<u64>,
        /// Whether the process is still in the mount namespace of the shim, and therefore a stage
        /// of the runtime (`runc init`); `None` if the source does not know.
        in_host_mounts: Option<bool>,
    },
    /// The last thread of the process ended.
    Exit {
        /// The wait status as the kernel encodes it, see [`Ended::from_wait_status`]; `None` if the
        /// source cannot know it.
        ///
        /// [`Ended::from_wait_status`]: crate::model::Ended::from_wait_status
        wait_status: Option<u32>,
        /// Whether the OOM killer killed the process.
        oom_killed: bool,
        /// The files behind its stdout and stderr; `None` for each that the source does not know.
        outputs: [Option<FileId>; 2],
    },
    /// A scan of `/proc` found the process alive. Scans run at the start and after a loss.
    Alive {
        /// Parent and session of the process.
        lineage: Lineage,
        /// What the process runs, not yet redacted.
        image: Arc<Image>,
        /// The id of the process's cgroup; `None` if that is the target's own cgroup.
        cgroup: Option<u64>,
    },
}

/// The two ends of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScanStep {
    /// The scan began. Every [`What::Alive`] of the target until [`ScanStep::Ended`] belongs to it.
    Began,
    /// The scan is complete. A known process that it did not report has ended.
    Ended,
}
