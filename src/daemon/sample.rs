//! What a process uses, read when somebody asks.

use std::fs;

use crate::model::{ProcessKey, TICKS_PER_SECOND};

/// What was read of one process. What is `None` is not ours to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time since it began, nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// Bytes that it caused to be read from and written to storage.
    pub io: Option<(u64, u64)>,
    /// Open descriptors.
    pub fds: Option<u32>,
}

/// `None` where the process has gone; its pid may be another's.
#[must_use]
pub fn sample(key: ProcessKey) -> Option<Usage> {
    let pid = key.pid;
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count);
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok().and_then(|text| {
        let field =
            |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some((field("read_bytes:")?, field("write_bytes:")?))
    });
    // Last: what was read before is this process's if the start is.
    let usage = parse(&fs::read(format!("/proc/{pid}/stat")).ok()?, key.start_ticks)?;
    Some(Usage { io, fds: fds.and_then(|count| u32::try_from(count).ok()), ..usage })
}

/// `/proc/PID/stat` (proc_pid_stat(5)); the name in it may contain anything.
fn parse(stat: &[u8], start_ticks: u64) -> Option<Usage> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = str::from_utf8(stat.get(after_name..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    // The first of these is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    if number(22)? != start_ticks {
        return None;
    }
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(Usage {
        cpu_ns: (number(14)? + number(15)?) * (1_000_000_000 / TICKS_PER_SECOND),
        rss_bytes: number(24)? * u64::try_from(page).ok()?,
        threads: u32::try_from(number(20)?).ok()?,
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::proc::identify;

    /// Check this process, and that one with its pid and another start is nobody.
    #[test]
    fn a_process_is_sampled_by_its_identity() {
        let me = identify(i32::try_from(std::process::id()).unwrap()).unwrap();
        let usage = sample(me).unwrap();
        assert!(
            usage.rss_bytes > 1 << 20 && usage.threads >= 2 && usage.fds.unwrap() >= 3,
            "{usage:?}"
        );
        assert_eq!(sample(ProcessKey { start_ticks: me.start_ticks + 1, ..me }), None);
    }
}
