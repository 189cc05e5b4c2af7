//! What `/proc` says of a process right after the kernel told of it. How fast this is decides how
//! much is known of short-lived processes: nothing here reads what can be left out.

use crate::{
    linux::{
        cgroup::Memberships,
        process::{Stat, Status, image_of, judged, mount_namespace, outputs, start_ticks_at},
    },
    model::{FileId, Grade, Image, ProcessKey, Unknown},
};

/// One process, as it stood shortly after an exec.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) stat: Stat,
    pub(super) status: Status,
    pub(super) image: Image,
    pub(super) grade: Grade,
    pub(super) memberships: Option<Memberships>,
    pub(super) outputs: [Option<FileId>; 2],
    pub(super) mounts: Option<u32>,
}

impl Reading {
    /// Reads; `at_ns` is the moment of the exec. `None`: nobody has the pid, or somebody younger.
    pub(super) fn of(pid: i32, at_ns: u64) -> Option<Self> {
        let stat = born_before(pid, at_ns)?;
        let (image, status) = image_of(pid, &stat);
        let memberships = Memberships::of(pid).ok();
        let outputs = outputs(pid);
        let mounts = mount_namespace(pid);
        let after = Stat::of(pid).filter(|after| after.start_ticks == stat.start_ticks);
        let (image, grade) = match after {
            Some(after) => judged(image, &after),
            // Reaped meanwhile: perhaps reused too, so nothing of it is believed.
            None => (Image { unknown: Some(Unknown::Gone), ..Image::default() }, Grade::Partial),
        };
        Some(Self { stat, status, image, grade, memberships, outputs, mounts })
    }

    pub(super) fn key(&self, pid: i32) -> ProcessKey {
        ProcessKey { pid, start_ticks: self.stat.start_ticks }
    }
}

/// Who has this pid, if that one was born before `at_ns` and so can be the one that the kernel told
/// of.
pub(super) fn born_before(pid: i32, at_ns: u64) -> Option<Stat> {
    // A tick of grace: the two clocks are not read at once.
    Stat::of(pid).filter(|stat| stat.start_ticks <= start_ticks_at(at_ns) + 1)
}
