//! `/proc/PID/stat`, `/proc/PID/status` and the namespaces of a process.

use super::read::{link, read};
use crate::{
    clock::{self, boottime_ns},
    model::{ProcessKey, TICKS_PER_SECOND},
    observe::record::Lineage,
};

/// Longer than any `stat`: 52 numbers and a name of 15 bytes (64 for a kernel thread).
const STAT_LIMIT: usize = 2048;

/// Much longer than a usual `status`; one with thousands of supplementary groups is cut, and what
/// comes after them (`NSpid`) is not known then.
const STATUS_LIMIT: usize = 16 << 10;

/// include/linux/sched.h.
const PF_EXITING: u64 = 4;

/// What the watch needs of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::observe) struct Stat {
    /// The task's name, field 2.
    pub(in crate::observe) comm: Box<[u8]>,
    /// One letter, field 3.
    pub(in crate::observe) state: u8,
    /// Field 4.
    pub(in crate::observe) parent: i32,
    /// Whether it is on its way out, its memory perhaps gone already: `PF_EXITING` of field 9.
    pub(in crate::observe) exiting: bool,
    /// Field 22.
    pub(in crate::observe) start_ticks: u64,
    /// How long the arguments are, by fields 48 and 49; `None` where the kernel hides them.
    pub(in crate::observe) args_bytes: Option<u64>,
}

impl Stat {
    /// Of a living process or a zombie; `None` for what is gone.
    pub(in crate::observe) fn of(pid: i32) -> Option<Self> {
        if pid <= 0 {
            return None;
        }
        Self::parse(&read(&format!("/proc/{pid}/stat"), STAT_LIMIT).ok()?)
    }

    /// Parses one line. The name may contain anything, `) ` too: the last parenthesis ends it.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let comm = line.get(open + 1..close)?;
        let fields: Vec<&[u8]> = line
            .get(close + 1..)?
            .split(u8::is_ascii_whitespace)
            .filter(|field| !field.is_empty())
            .collect();
        // The first of these is field 3.
        let number = |field: usize| -> Option<u64> {
            str::from_utf8(fields.get(field - 3)?).ok()?.parse().ok()
        };
        let args_bytes = match (number(48), number(49)) {
            // 1 is what a reader without the right to ptrace gets; 0 means none.
            (Some(start), Some(end)) if start > 1 => end.checked_sub(start),
            _ => None,
        };
        Some(Self {
            comm: comm.into(),
            state: *fields.first()?.first()?,
            parent: i32::try_from(number(4)?).ok()?,
            exiting: number(9).is_some_and(|flags| flags & PF_EXITING != 0),
            start_ticks: number(22)?,
            args_bytes,
        })
    }

    /// Whether it has ended, or is about to and cannot be read any more.
    pub(in crate::observe) fn is_dead(&self) -> bool {
        self.exiting || matches!(self.state, b'Z' | b'X')
    }
}

/// What the watch needs of `/proc/PID/status` (proc_pid_status(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// The effective user, as the host counts.
    pub uid: Option<u32>,
    /// The effective group, as the host counts.
    pub gid: Option<u32>,
    /// The pid in the process's own pid namespace.
    pub vpid: Option<i32>,
}

impl Status {
    /// Of a process; all unknown for what is gone.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        read(&format!("/proc/{pid}/status"), STATUS_LIMIT)
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    /// Parses the lines that matter; a line that is not understood is not known.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut status = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Some((name, values)) =
                line.iter().position(|byte| *byte == b':').map(|at| line.split_at(at))
            else {
                continue;
            };
            let mut words = values[1..]
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .filter_map(|word| str::from_utf8(word).ok());
            match name {
                b"Uid" => status.uid = words.nth(1).and_then(|word| word.parse().ok()),
                b"Gid" => status.gid = words.nth(1).and_then(|word| word.parse().ok()),
                b"NSpid" => status.vpid = words.next_back().and_then(|word| word.parse().ok()),
                _ => {}
            }
        }
        status
    }
}

/// Who has this pid now: its start is field 22 of `/proc/PID/stat`. Also of a zombie. `None`:
/// nobody.
#[must_use]
pub fn identify(pid: i32) -> Option<ProcessKey> {
    Stat::of(pid).map(|stat| ProcessKey { pid, start_ticks: stat.start_ticks })
}

/// Where a process stands in its tree now: after its parent's end that is whoever took it over.
/// `None`: nobody has this pid.
#[must_use]
pub fn lineage(pid: i32) -> Option<Lineage> {
    let stat = Stat::of(pid)?;
    Some(lineage_of(&stat, Status::of(pid).vpid))
}

/// As [`lineage`], of what was read already.
pub(in crate::observe) fn lineage_of(stat: &Stat, vpid: Option<i32>) -> Lineage {
    let parent = Stat::of(stat.parent);
    Lineage {
        vpid,
        parent_pid: stat.parent,
        parent_start_ticks: parent.as_ref().map_or(0, |parent| parent.start_ticks),
        grandparent_pid: parent.map_or(0, |parent| parent.parent),
    }
}

/// The inode number of a process's pid namespace. `None` where the process is gone or the kernel
/// refuses.
#[must_use]
pub fn pid_namespace(pid: i32) -> Option<u32> {
    namespace(pid, "pid")
}

/// The inode number of a process's mount namespace. `None` where the process is gone or the kernel
/// refuses.
#[must_use]
pub fn mount_namespace(pid: i32) -> Option<u32> {
    namespace(pid, "mnt")
}

/// The link reads `pid:[4026531836]` (namespaces(7)).
fn namespace(pid: i32, kind: &str) -> Option<u32> {
    let text = link(&format!("/proc/{pid}/ns/{kind}")).ok()?;
    let text = str::from_utf8(&text).ok()?;
    text.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// The clock ticks since boot at a moment of `CLOCK_MONOTONIC` (nanoseconds): what the start of a
/// process that began then is, but for one tick where the kernel took the two times apart.
#[must_use]
pub fn start_ticks_at(monotonic_ns: u64) -> u64 {
    // The two clocks differ by the time that the machine was suspended.
    let suspended = boottime_ns().saturating_sub(clock::monotonic_ns());
    monotonic_ns.saturating_add(suspended) / (1_000_000_000 / TICKS_PER_SECOND)
}
