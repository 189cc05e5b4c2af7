//! `/proc/PID/status` (proc_pid_status(5)).

use super::super::read::read;

/// The most bytes of a `status` that are read, many times the usual size. The file of a process
/// with thousands of supplementary groups is cut, and the fields after the groups (`NSpid`) are
/// then not known.
const STATUS_LIMIT: usize = 16 << 10;

/// The fields of `/proc/PID/status` that are used; each is `None` if it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// The effective user id in the initial user namespace.
    pub uid: Option<u32>,
    /// The effective group id in the initial user namespace.
    pub gid: Option<u32>,
    /// The pid of the process in its own pid namespace.
    pub vpid: Option<i32>,
    /// The effective capabilities, one bit for each (linux/capability.h).
    pub effective_capabilities: Option<u64>,
}

impl Status {
    /// Reads the status of a process. All fields are `None` if the process is gone.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        read(&format!("/proc/{pid}/status"), STATUS_LIMIT)
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    /// Reads the status of this process. All fields are `None` if `/proc` is not mounted.
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id().cast_signed())
    }

    /// Parses the lines that are used. A value that cannot be parsed is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
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
                b"CapEff" => {
                    let mask = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
                    status.effective_capabilities = mask;
                }
                b"NSpid" => status.vpid = words.next_back().and_then(|word| word.parse().ok()),
                _ => {}
            }
        }
        status
    }
}
