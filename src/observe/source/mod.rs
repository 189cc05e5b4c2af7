//! The sources of records.
//!
//! ```text
//!  bpf         the node's pinned eBPF programs, with one ring for each shim
//!  connector   the node's one listener on the proc connector; reads /proc at each exec
//!  poll        scans of /proc, at a fixed interval
//!  mock        a script, for tests
//! ```
//!
//! One thread owns a source. A source reports records and never interprets them, and no method
//! blocks for longer than its documentation allows.

// The real sources exist on Linux only; `mock` lets the tracker be tested on every platform.
cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub mod bpf;
        pub mod connector;
        pub mod poll;
        pub mod probe;
    }
}
pub mod mock;
pub mod scan;

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::record::{CallId, Record, TargetId};
use crate::{
    model::{Backend, ProcessKey},
    platform::process,
};

/// A set of processes that a source is asked to observe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A container: a cgroup and all cgroups below it.
    Cgroup {
        /// The directory of the cgroup.
        path: PathBuf,
        /// The container's pid namespace; `None` if the container shares the host's. Processes that
        /// entered the namespace without entering the cgroup are found by it.
        pid_namespace: Option<PidNamespace>,
    },
    /// A process and all its descendants, including those that already run.
    Tree {
        /// The pid of the root.
        pid: i32,
    },
}

/// A pid namespace, and a process in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidNamespace {
    /// The inode number of the namespace. The kernel reuses it after the end of the namespace.
    pub inode: u32,
    /// A process in the namespace. As long as that process is in it, the number is not reused.
    pub pid: i32,
}

impl PidNamespace {
    /// The pid namespace of a process; `None` if the process does not exist.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { inode: process::pid_namespace(pid)?, pid })
    }
}

/// The kernel's counts of the records of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Records that the eBPF programs began. Counted before space in the ring is reserved, so it
    /// includes the lost records.
    pub seen: u64,
    /// Records that were lost because the ring had no space for them.
    pub lost: u64,
}

/// The TCP connections of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// The number of connections that are established now.
    pub open: u64,
    /// The time at which a connection was last established or closed (`CLOCK_MONOTONIC`,
    /// nanoseconds); 0 if no connection was established or closed since the count began.
    pub changed_ns: u64,
}

/// Marks the processes that descend from a runtime call: the records of these processes then name
/// the call in their [`Provenance`](super::record::Provenance).
///
/// Used on the thread that spawns, without the thread that owns the source.
pub trait CallMarker: Send + Sync + fmt::Debug {
    /// The call has begun, and the calling thread is about to spawn the runtime. Until
    /// [`spawn_ended`](CallMarker::spawn_ended), the children of this thread are processes of the
    /// call. Without a `target`, the container of the call is not watched yet: the records of these
    /// processes are withheld from every target while the call lasts.
    ///
    /// # Errors
    ///
    /// The kernel's error. The processes of the call are then not known as such.
    fn spawn_begins(&self, call: CallId, target: Option<TargetId>) -> io::Result<()>;

    /// The calling thread has spawned the runtime, or has failed to: its further children are not
    /// processes of the call.
    fn spawn_ended(&self);

    /// The runtime call has ended.
    fn ended(&self, call: CallId);
}

/// Reports the process and socket events of targets as [`Record`]s.
pub trait Source: Send {
    /// The backend that is named in the events of this source.
    fn backend(&self) -> Backend;

    /// Begins to watch a target. Everything that happens in the target after the call returns is
    /// recorded, under the given id.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the target cannot be watched. The target is then not watched.
    fn watch(&mut self, id: TargetId, target: &Target) -> Result<(), SourceError>;

    /// Adds those processes of a container's cgroup that were made by the runtime call that made
    /// `init`, and which therefore were withheld from every target. That call has not ended, and
    /// the container is watched.
    ///
    /// # Errors
    ///
    /// [`SourceError::Kernel`] if they cannot be added.
    fn add_created(&mut self, id: TargetId, path: &Path, init: i32) -> Result<(), SourceError> {
        let _ = (id, path, init);
        Ok(())
    }

    /// Whether the source reports sockets. If it does not, the kernel's list of sockets has to be
    /// read repeatedly.
    fn sees_ports(&self) -> bool {
        false
    }

    /// Whether the source reports UDP sockets too. If it does not, bound sockets are listed only on
    /// request.
    fn sees_udp(&self) -> bool {
        false
    }

    /// Also reports, for this target, those sockets of a network namespace that were not created in
    /// a target's cgroup. A namespace, which its cookie names, belongs to the first target that
    /// requests it.
    ///
    /// Returns whether the source reports these sockets: `false` if it sees no ports, or if the
    /// namespace belongs to another target.
    fn watch_network(&mut self, _id: TargetId, _cookie: u64) -> bool {
        false
    }

    /// A process of this tree holds a socket that listened before the tree was watched: its close
    /// is recorded from now on, if the source sees ports. The socket may have closed already.
    fn adopt_listener(&mut self, _id: TargetId, _cookie: u64) {}

    /// The established TCP connections of a target, counted from the first call on. `None` if the
    /// source does not count connections, or does not watch the target.
    fn connections(&mut self, _id: TargetId) -> Option<Connections> {
        None
    }

    /// Requests one [`Record::Connected`] when the target's next connection is established. Returns
    /// whether the source will report it.
    fn await_connection(&mut self, _id: TargetId) -> bool {
        false
    }

    /// Whether this cgroup is a target of any shim on the node, as far as the source can know.
    fn is_watched(&self, _cgroup: u64) -> bool {
        false
    }

    /// Whether a scan that finds a process in the cgroup or namespace of the target `id` must leave
    /// it out: another container, of any shim on the node, has reported it first and keeps it into
    /// whatever cgroup it moves; or a runtime call that lasts is making it for a container that is
    /// not known yet. False if the source does not know.
    fn is_kept_from(&self, _id: TargetId, _process: ProcessKey) -> bool {
        false
    }

    /// The marker for the processes of runtime calls; `None` if the records of the source do not
    /// name the call.
    fn call_marker(&self) -> Option<Arc<dyn CallMarker>> {
        None
    }

    /// Stops watching a target. Records that were made before may still be read. An unknown target
    /// is ignored.
    fn unwatch(&mut self, id: TargetId);

    /// The kernel's counts of a target, valid until [`unwatch`](Source::unwatch). `None` if the
    /// source does not count, or does not watch the target.
    fn counts(&self, id: TargetId) -> Option<KernelCounts>;

    /// A descriptor that is readable while there are records. `None` if the source has no
    /// descriptor: the caller then reads again after [`interval`](Source::interval).
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// How long to wait between two reads. With a descriptor: how long records may collect after it
    /// became readable. Without one: how often to read.
    fn interval(&self) -> Duration;

    /// After a read that has left records: whether some of them may be of this target.
    fn may_have_more(&self, _id: TargetId) -> bool {
        true
    }

    /// Waits so that more records collect before the next read. Returns after
    /// [`interval`](Source::interval), or earlier if a record must not wait or one of `others` is
    /// readable.
    ///
    /// Returns whether the whole time passed. Only then does an empty read mean that there are no
    /// records.
    fn wait_to_collect(&mut self, others: &[BorrowedFd<'_>]) -> bool {
        !is_ready_within(others, self.interval())
    }

    /// Passes about `limit` records at most to `sink`, oldest first, and returns whether there may
    /// be more. Never blocks.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the source has failed. A source that has failed delivers no more records.
    fn read(&mut self, limit: usize, sink: &mut dyn FnMut(Record)) -> Result<bool, SourceError>;
}

/// Waits until one of the descriptors is readable, for `time` at most. Returns whether one is.
fn is_ready_within(any: &[BorrowedFd<'_>], time: Duration) -> bool {
    let mut any: Vec<PollFd<'_>> =
        any.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // An error, EINTR included, counts as ready: the caller then reads early, which is harmless. If
    // the wait were wrongly reported as complete, the caller would take an empty read as the
    // absence of records. Signals are handled on the main thread.
    poll(&mut any, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)).unwrap_or(1) > 0
}

/// Why a source is not available, or why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The kernel refused an operation.
    #[error("failed to {action}")]
    Kernel {
        /// The operation, for example `load the eBPF programs`.
        action: &'static str,
        /// The kernel's or libbpf's error.
        #[source]
        source: std::io::Error,
    },
    /// The node lacks something that the source needs.
    #[error("{what} is missing")]
    Missing {
        /// The name of the missing thing.
        what: &'static str,
    },
    /// A bounded resource is exhausted.
    #[error("the limit of {limit} {what} is reached")]
    Full {
        /// The name of the resource, in the plural.
        what: &'static str,
        /// How many of the resource there are.
        limit: u32,
    },
    /// The target does not exist, or targets of its kind cannot be watched.
    #[error("cannot watch {target}")]
    Target {
        /// The directory of the cgroup, or `process PID`.
        target: String,
        /// The error that the system returned.
        #[source]
        source: std::io::Error,
    },
    /// A peer that the source depends on has ended.
    #[error("{what} has ended")]
    Gone {
        /// The name of the peer.
        what: &'static str,
    },
    /// The user of the source closed it.
    #[error("the source is closed")]
    Closed,
}
