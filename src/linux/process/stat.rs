//! `/proc/PID/stat` (proc_pid_stat(5)).
//!
//! The parser is our own and not that of the crate `procfs`, because `procfs` replaces the bytes of
//! a name that are not UTF-8, while a record keeps the name unchanged.

use std::num::NonZeroU64;

use super::super::read::read;
use crate::{
    clock::boottime_shift_ns,
    model::{StartTicks, TICKS_PER_SECOND, Text},
};

/// The most bytes of a `stat` that are read, more than any has: 52 numbers and a name of 15 bytes
/// (64 for a kernel thread).
const STAT_LIMIT: usize = 2048;

/// The flag of a process that is in do_exit() (include/linux/sched.h).
const PF_EXITING: u64 = 4;

/// The fields of `/proc/PID/stat` that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The task's name, field 2: any bytes but 0, at most 15 of them.
    pub comm: Text,
    /// The state, field 3: one ASCII character, such as `R` or `Z`.
    pub state: u8,
    /// The parent's pid, field 4. `None` if the parent is in another pid namespace, or if the
    /// process is being reaped (`pid_alive`, fs/proc/array.c).
    pub parent: Option<i32>,
    /// Whether the process is in do_exit() (`PF_EXITING` in field 9). Its memory may already be
    /// released then.
    pub exiting: bool,
    /// User and system time, fields 14 and 15, in clock ticks.
    pub cpu_ticks: u64,
    /// The number of threads, field 20.
    pub threads: u32,
    /// The start in clock ticks since boot: field 22, which the kernel shifts by the time namespace
    /// of the reader, without this shift. It may be a tick too late if the shift is no whole number
    /// of ticks.
    pub start_ticks: u64,
    /// Resident memory in pages, field 24.
    pub resident_pages: u64,
    /// The length of the arguments in bytes, by fields 48 and 49. `None` if the kernel hides these
    /// fields from a reader without the right to ptrace.
    pub args_bytes: Option<u64>,
    /// The address of the stack, which each exec chooses anew; `None` without the right to ptrace.
    pub stack: Option<NonZeroU64>,
}

impl Stat {
    /// Reads the `stat` of a living process or a zombie; `None` if there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        if pid <= 0 {
            return None;
        }
        Self::parse(&read(&format!("/proc/{pid}/stat"), STAT_LIMIT).ok()?)
    }

    /// Parses the line; `None` if a required field is missing. The name may contain any byte, also
    /// `) `: it ends at the last parenthesis.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let comm = line.get(open + 1..close)?;
        let fields = line.get(close + 1..)?.split(u8::is_ascii_whitespace);
        let fields: Vec<&[u8]> = fields.filter(|field| !field.is_empty()).collect();
        // The first element of `fields` is field 3 of the file.
        let number = |field: usize| -> Option<u64> {
            str::from_utf8(fields.get(field - 3)?).ok()?.parse().ok()
        };
        let args_bytes = match (number(48), number(49)) {
            // 1 is the value for a reader without the right to ptrace, and 0 means that the process
            // has no arguments.
            (Some(start), Some(end)) if start > 1 => end.checked_sub(start),
            _ => None,
        };
        Some(Self {
            comm: comm.into(),
            state: *fields.first()?.first()?,
            parent: Some(i32::try_from(number(4)?).ok()?).filter(|pid| *pid > 0),
            exiting: number(9).is_some_and(|flags| flags & PF_EXITING != 0),
            cpu_ticks: number(14).unwrap_or(0).saturating_add(number(15).unwrap_or(0)),
            threads: u32::try_from(number(20).unwrap_or(0)).unwrap_or(u32::MAX),
            start_ticks: unshifted(number(22)?, boottime_shift_ns()),
            resident_pages: number(24).unwrap_or(0),
            args_bytes,
            // 0 or 1 for a reader without the right to ptrace.
            stack: number(28).filter(|address| *address > 1).and_then(NonZeroU64::new),
        })
    }

    /// The start of the process in the form that a [`ProcessKey`](crate::model::ProcessKey) has;
    /// `None` if it is not known.
    #[must_use]
    pub fn start(&self) -> Option<StartTicks> {
        StartTicks::new(self.start_ticks)
    }

    /// Whether any thread of the process has not ended. If so, the kernel has not reported the exit
    /// of the process yet. A zombie with more than one thread is a leader that ended before the
    /// others.
    #[must_use]
    pub fn has_running_thread(&self) -> bool {
        !self.is_zombie() || self.threads > 1
    }

    /// Whether the process is a zombie, or is being removed (`X`).
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// Whether the process is a zombie, or is in do_exit() so that it cannot be read any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.exiting || self.is_zombie()
    }
}

/// A start time in clock ticks, less the boottime offset of the reader's time namespace.
fn unshifted(ticks: u64, shift_ns: i64) -> u64 {
    const TICK_NS: i64 = 1_000_000_000 / TICKS_PER_SECOND as i64;
    ticks.saturating_add_signed(-shift_ns.div_euclid(TICK_NS))
}
