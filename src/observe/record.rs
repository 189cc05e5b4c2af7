//! What a source saw, before anyone asks what it means.
//!
//! Every source speaks in these records, so that one tracker serves them all. A record says only
//! what its source knows; what it does not is `None`.

use std::sync::Arc;

use crate::model::{Endpoint, Grade, Image, ProcessKey, Stage};

/// What a source is asked to watch: the id of a container's cgroup (its directory's inode on the
/// unified hierarchy), or a number that the watcher made up for a target without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u64);

impl TargetId {
    /// The `number`th that is no cgroup's: the top bit is set, which the kernel never reaches.
    #[must_use]
    pub const fn made_up(number: u64) -> Self {
        Self(number | 1 << 63)
    }

    /// Whether it is no cgroup's.
    #[must_use]
    pub const fn is_made_up(self) -> bool {
        self.0 >> 63 == 1
    }
}

/// One thing that a source saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// About one process of one target.
    Process {
        /// Whose.
        target: TargetId,
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// How far it can be trusted.
        grade: Grade,
        /// Who. `start_ticks` 0 where the source could not tell.
        key: ProcessKey,
        /// What.
        what: What,
    },
    /// A socket of one target listens.
    Listen {
        /// Whose.
        target: TargetId,
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// Which.
        socket: Socket,
        /// Who called listen(2).
        by: ProcessKey,
        /// Its pid in its own pid namespace.
        vpid: Option<i32>,
    },
    /// A socket of one target no longer listens.
    Unlisten {
        /// Whose.
        target: TargetId,
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// Which; its number is known here, where it was not at the beginning.
        socket: Socket,
    },
    /// The connection of a target that was waited for: see
    /// [`Source::await_connection`](super::source::Source::await_connection).
    Connected {
        /// Whose.
        target: TargetId,
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
    },
    /// Records were lost. For one target, or where the source cannot say whose, for all.
    Lost {
        /// Whose; `None` for every target of this source.
        target: Option<TargetId>,
        /// `CLOCK_MONOTONIC`, in nanoseconds: when it was noticed.
        at_ns: u64,
        /// How many; `None` where nobody counted.
        count: Option<u64>,
        /// Where.
        stage: Stage,
    },
}

/// A listening socket of TCP, or a bound one of UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's number for it, which is never reused (`SO_COOKIE`).
    pub cookie: u64,
    /// The inode of its file, as `/proc/PID/fd` shows it; 0 where it is not known.
    pub inode: u64,
    /// The inode of its network namespace.
    pub network_namespace: u32,
    /// Where.
    pub endpoint: Endpoint,
}

/// What happened to a process.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// It was made. The record's `key` is the child.
    Fork(Lineage),
    /// It runs a new image.
    Exec {
        /// Where it stands.
        lineage: Lineage,
        /// What it runs now.
        image: Arc<Image>,
        /// The id of its cgroup, where that is not the target's own.
        cgroup: Option<u64>,
        /// Whether it still is in the mount namespace of the shim: then it is a stage of the
        /// runtime.
        in_host_mounts: Option<bool>,
    },
    /// Its last thread ended.
    Exit {
        /// The wait status as the kernel has it, see [`Ended::from_wait_status`]; `None` where the
        /// source cannot know.
        ///
        /// [`Ended::from_wait_status`]: crate::model::Ended::from_wait_status
        wait_status: Option<u32>,
        /// Whether the OOM killer chose it.
        oom_killed: bool,
        /// What its stdout and stderr were, where the source can tell.
        outputs: [Option<FileId>; 2],
    },
    /// A look at `/proc` found it alive: at the beginning, and after a loss.
    Alive {
        /// Where it stands.
        lineage: Lineage,
        /// What it runs.
        image: Arc<Image>,
        /// The id of its cgroup, where that is not the target's own.
        cgroup: Option<u64>,
    },
    /// A look at `/proc` began: every [`What::Alive`] until [`What::LookEnded`] belongs to it. The
    /// record's `key` says nothing.
    LookBegan,
    /// A look at `/proc` is complete: what it did not name is dead.
    LookEnded,
}

/// Where a process stands in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lineage {
    /// Its pid in its own pid namespace.
    pub vpid: Option<i32>,
    /// Its parent's pid as the host counts; 0 where it is not known.
    pub parent_pid: i32,
    /// The parent's start in clock ticks; 0 where it is not known.
    pub parent_start_ticks: u64,
    /// The parent's parent's pid as the host counts; 0 where it is not known.
    pub grandparent_pid: i32,
}

impl Lineage {
    /// The parent, where both its pid and its start are known.
    #[must_use]
    pub fn parent(self) -> Option<ProcessKey> {
        (self.parent_pid > 0 && self.parent_start_ticks > 0)
            .then_some(ProcessKey { pid: self.parent_pid, start_ticks: self.parent_start_ticks })
    }
}

/// An open file, among all of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device, as `stat.st_dev` encodes it.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}
