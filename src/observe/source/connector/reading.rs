//! What `/proc` shows of a process right after the kernel has reported its exec.
//!
//! The process may end at any moment, so the speed of this code decides how much is known about
//! short-lived processes. Therefore it reads nothing that is not needed.

use crate::{
    linux::{
        cgroup::Memberships,
        process::{Stat, Status, graded, image_of, mount_namespace, outputs, start_ticks_at},
    },
    model::{FileId, Grade, Image, ProcessKey, UnknownReason},
};

/// The state of one process shortly after an exec.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) stat: Stat,
    pub(super) status: Status,
    pub(super) image: Image,
    /// `Late` if `image` is complete, otherwise `Partial`.
    pub(super) grade: Grade,
    /// The cgroups of the process; `None` if they could not be read.
    pub(super) memberships: Option<Memberships>,
    /// The files of the stdout and stderr of the process.
    pub(super) outputs: [Option<FileId>; 2],
    /// The inode number of the mount namespace of the process; `None` if it could not be read.
    pub(super) mount_namespace: Option<u32>,
}

impl Reading {
    /// Reads the process `pid`. `at_ns` is the time of its exec (`CLOCK_MONOTONIC`, nanoseconds).
    /// `None` if no process has the pid, or only a process that was started after the exec.
    pub(super) fn of(pid: i32, at_ns: u64) -> Option<Self> {
        let stat = stat_if_born_before(pid, at_ns)?;
        // The image is read first, because it vanishes first: a process that begins to end releases
        // its memory, from which the image is read.
        let (image, status) = image_of(pid, &stat);
        let memberships = Memberships::of(pid).ok();
        let outputs = outputs(pid);
        let mount_namespace = mount_namespace(pid);
        // A second read of the start time proves that all reads above were of the same process.
        let after = Stat::of(pid).filter(|after| after.start_ticks == stat.start_ticks);
        let (image, grade) = match after {
            Some(after) => graded(image, &after),
            // The process was reaped meanwhile. Its pid may have been reused at any point between
            // the reads, so no part of the image is used.
            None => {
                (Image { unknown: Some(UnknownReason::Gone), ..Image::default() }, Grade::Partial)
            }
        };
        Some(Self { stat, status, image, grade, memberships, outputs, mount_namespace })
    }

    pub(super) fn key(&self, pid: i32) -> ProcessKey {
        ProcessKey::new(pid, self.stat.start_ticks)
    }
}

/// The process that has this pid now, if it started before `at_ns` (`CLOCK_MONOTONIC`,
/// nanoseconds). A younger process cannot be the one that the kernel has reported at `at_ns`.
pub(super) fn stat_if_born_before(pid: i32, at_ns: u64) -> Option<Stat> {
    // One tick more is allowed, because `start_ticks_at` can be off by one tick.
    Stat::of(pid).filter(|stat| stat.start_ticks <= start_ticks_at(at_ns) + 1)
}
