//! What a source saw, before anyone asks what it means.
//!
//! Every source speaks in these records, so that one tracker serves them all. A record says only
//! what its source knows; what it does not is `None`.

use std::sync::Arc;

use crate::{
    model::{FileId, Grade, Image, Lineage, ProcessKey, Socket, Stage},
    platform::process,
};

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

    /// The `number`th that is no cgroup's, and that no other process of the node uses: the eBPF maps
    /// of targets are shared by all of them.
    #[must_use]
    pub fn of_this_process(number: u64) -> Self {
        let pid = std::process::id();
        let start = process::identify(pid.cast_signed()).map_or(0, |me| me.start_ticks);
        // 22 bits hold a pid (PID_MAX_LIMIT), and 24 bits of the start differ until the same pid
        // can come again.
        let (start, pid, number) =
            (start & 0xff_ffff, u64::from(pid) & 0x3f_ffff, number & 0x1_ffff);
        Self::made_up(start << 39 | pid << 17 | number)
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
        /// Attribution.
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
        /// Attribution.
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
        /// Attribution.
        target: TargetId,
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
        /// Which; its number is known here, where it was not at the beginning.
        socket: Socket,
    },
    /// The connection of a target that was waited for: see
    /// [`Source::await_connection`](super::source::Source::await_connection).
    Connected {
        /// Attribution.
        target: TargetId,
        /// `CLOCK_MONOTONIC`, in nanoseconds.
        at_ns: u64,
    },
    /// Records were lost. For one target, or where the source cannot say whose, for all.
    Lost {
        /// Attribution; `None` for every target of this source.
        target: Option<TargetId>,
        /// `CLOCK_MONOTONIC`, in nanoseconds: when it was noticed.
        at_ns: u64,
        /// How many; `None` where nobody counted.
        count: Option<u64>,
        /// Where.
        stage: Stage,
    },
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
    /// A look at `/proc` began: every [`What::Alive`] until [`What::ScanEnded`] belongs to it. The
    /// record's `key` says nothing.
    ScanBegan,
    /// A look at `/proc` is complete: what it did not name is dead.
    ScanEnded,
}
