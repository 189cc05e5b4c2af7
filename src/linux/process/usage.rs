//! The resources that a process uses.

use std::fs;

use super::stat::Stat;
use crate::{
    model::{ProcessKey, TICKS_PER_SECOND},
    sys::page_size,
};

/// The resources that one process uses. A field is `None` if the user of the calling process may
/// not read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time since the process started, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// The number of threads of the process.
    pub threads: u32,
    /// The number of bytes that the process caused to be read from storage, and the number that it
    /// caused to be written to storage.
    pub io: Option<(u64, u64)>,
    /// The number of open descriptors.
    pub fds: Option<u32>,
}

/// What one process has used, and its memory: the part of [`Usage`] that can be summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consumption {
    /// User and system time since the process started, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// As [`Usage::io`].
    pub io: Option<(u64, u64)>,
}

/// Reads what a process has used, without its descriptors, of which there may be many. `None` as
/// for [`usage`].
#[must_use]
pub fn consumption(key: ProcessKey) -> Option<Consumption> {
    let Usage { cpu_ns, rss_bytes, io, .. } = read(key, None)?;
    Some(Consumption { cpu_ns, rss_bytes, io })
}

/// Reads the usage of a process. `None` if the process was reaped, even if another process has its
/// pid.
#[must_use]
pub fn usage(key: ProcessKey) -> Option<Usage> {
    let fds = fs::read_dir(format!("/proc/{}/fd", key.pid)).ok().map(Iterator::count);
    read(key, fds.and_then(|count| u32::try_from(count).ok()))
}

fn read(key: ProcessKey, fds: Option<u32>) -> Option<Usage> {
    let pid = key.pid;
    let io = fs::read(format!("/proc/{pid}/io")).ok().and_then(|text| io_of(&text));
    // Read last: if the start still matches, the other files were of the same process.
    let stat = Stat::of(pid).filter(|stat| stat.start() == key.start)?;
    Some(Usage {
        cpu_ns: stat.cpu_ticks.saturating_mul(1_000_000_000 / TICKS_PER_SECOND),
        rss_bytes: stat.resident_pages.saturating_mul(page_size() as u64),
        threads: stat.threads,
        io,
        fds,
    })
}

/// The bytes read and written in the text of `/proc/PID/io`; `None` if it lacks one of them.
pub(super) fn io_of(text: &[u8]) -> Option<(u64, u64)> {
    let value = |name: &[u8]| {
        let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name));
        str::from_utf8(line?).ok()?.trim().parse().ok()
    };
    Some((value(b"read_bytes:")?, value(b"write_bytes:")?))
}

#[cfg(test)]
mod tests {
    use super::{super::identify, *};

    /// Check the usage of this process, and that a pid with another start has none.
    #[test]
    fn the_usage_is_of_the_process_with_the_given_start() {
        let me = identify(std::process::id().cast_signed()).unwrap();
        let used = usage(me).unwrap();
        assert!(used.rss_bytes > 1 << 20 && used.threads >= 2, "{used:?}");
        assert!(used.fds.unwrap() >= 3 && used.io.is_some(), "{used:?}");
        assert_eq!(usage(ProcessKey::new(me.pid, me.start_ticks() + 1)), None);
    }

    /// Check that the fields are found by their names, and that any other text has none.
    #[test]
    fn the_bytes_of_storage_are_found() {
        let text = "rchar: 1\nwrite_bytes: 2\ncancelled_write_bytes: 3\nread_bytes: 4\n";
        assert_eq!(io_of(text.as_bytes()), Some((4, 2)));
        for text in ["", "\u{9a} 2", "read_bytes: 4\n", "read_bytes: x\nwrite_bytes: 2\n"] {
            assert_eq!(io_of(text.as_bytes()), None, "{text}");
        }
    }
}
