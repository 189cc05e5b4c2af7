//! The identity of a process and its place in the tree.
//!
//! A pid is reused after its process is reaped. The pair of a pid and the start of its process is
//! never reused.

use super::{
    super::{
        boottime_ns,
        namespace::{self, Kind},
    },
    stat::Stat,
    status::Status,
};
use crate::{
    clock::monotonic_ns,
    model::{Lineage, ProcessKey, TICKS_PER_SECOND},
};

/// The identity of the process, also of a zombie, that has this pid now. `None` if no process has
/// it.
#[must_use]
pub fn identify(pid: i32) -> Option<ProcessKey> {
    Stat::of(pid).map(|stat| ProcessKey::new(pid, stat.start_ticks))
}

/// When the process that has this pid started, in clock ticks since boot. `None` if no process has
/// the pid, or if the process is a zombie.
#[must_use]
pub fn start_ticks(pid: i32) -> Option<u64> {
    Stat::of(pid).filter(|stat| !stat.is_zombie()).map(|stat| stat.start_ticks)
}

/// The effective user id of the process that has this pid now; `None` if the user is not known.
#[must_use]
pub fn user(pid: i32) -> Option<u32> {
    Status::of(pid).uid
}

/// The current parent and grandparent of a process. If the parent has ended, the process that has
/// adopted the child counts as the parent. `None` if there is no such process.
#[must_use]
pub fn lineage(pid: i32) -> Option<Lineage> {
    let stat = Stat::of(pid)?;
    Some(lineage_of(&stat, Status::of(pid).vpid))
}

/// As [`lineage`], from a `stat` that the caller has read.
pub(crate) fn lineage_of(stat: &Stat, vpid: Option<i32>) -> Lineage {
    let parent = stat.parent.and_then(Stat::of);
    let start = parent.as_ref().and_then(Stat::start);
    Lineage {
        vpid,
        parent: stat.parent.map(|pid| ProcessKey { pid, start }),
        grandparent_pid: parent.and_then(|parent| parent.parent),
    }
}

/// The inode number of a process's pid namespace. `None` if the process is gone or the kernel
/// refuses the read.
#[must_use]
pub fn pid_namespace(pid: i32) -> Option<u32> {
    namespace::inode(pid, Kind::Pid).ok()
}

/// The inode number of a process's mount namespace. `None` if the process is gone or the kernel
/// refuses the read.
#[must_use]
pub fn mount_namespace(pid: i32) -> Option<u32> {
    namespace::inode(pid, Kind::Mount).ok()
}

/// The start in clock ticks since boot of a process that started at a moment of `CLOCK_MONOTONIC`
/// (nanoseconds). The result is off by one tick at most, because the kernel reads the two clocks
/// one after the other.
#[must_use]
pub fn start_ticks_at(moment_ns: u64) -> u64 {
    // The two clocks differ by the time that the machine was suspended.
    let suspended = boottime_ns().saturating_sub(monotonic_ns());
    moment_ns.saturating_add(suspended) / (1_000_000_000 / TICKS_PER_SECOND)
}
