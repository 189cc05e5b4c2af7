//! A registry entry: one registered process.
//!
//! The type [`Entry`] is what the daemon keeps in memory, and what its registry file, a snapshot
//! and `lookout list -o json` have for each entry.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    api,
    model::{Ended, ProcessKey},
};

/// One entry of the registry. Its JSON form is the schema of snapshots. Times are
/// `CLOCK_REALTIME`, in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The id of the entry, 1 or higher. An id is never used again, not even after `reset`.
    pub id: u64,
    /// The name of the entry, at most 128 bytes; `None` if it has no name. Several entries may
    /// share a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tags, in alphabetical order; at most 64, of at most 128 bytes each.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// The groups, in alphabetical order; at most 64, of at most 128 bytes each.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// The identity of the process, and the command that it ran when the entry was added.
    pub process: Process,
    /// When the entry was added.
    pub added_ns: u64,
    /// When the process was last known to be alive.
    pub last_seen_ns: u64,
    /// When and how the process ended; `None` while it is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ProcessEnd>,
}

/// The process of an entry. It may belong to an earlier boot than the current one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The pid of the process, in the pid namespace of the daemon.
    pub pid: i32,
    /// When the process started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
    /// The first 32 bits of the boot id.
    pub boot: u32,
    /// The path of the executable; empty if it could not be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub executable: String,
    /// The arguments, after redaction; at most 4 KiB.
    #[serde(default)]
    pub command_args: Vec<String>,
    /// Whether bytes that are not UTF-8 are written as `\xHH` in this process's texts. If so, a
    /// backslash is doubled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub escaped: bool,
    /// Whether `command_args` was cut at the limit.
    #[serde(default, skip_serializing_if = "is_false")]
    pub args_truncated: bool,
    /// Whether a part of the arguments was replaced by redaction.
    #[serde(default, skip_serializing_if = "is_false")]
    pub args_redacted: bool,
    /// The effective user id; `None` if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// When the process started, in nanoseconds since 1970; 0 if unknown.
    #[serde(default)]
    pub created_ns: u64,
    /// The inode of the process's pidfd, unique within its boot; `None` before Linux 6.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfd_inode: Option<u64>,
}

/// When and how the process of an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// When the daemon noticed the end, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The exit code, 0 to 255; `None` if a signal ended the process. Both `code` and `signal` are
    /// `None` if the exit status is unknown, as always before Linux 6.15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The number of the signal that ended the process; `None` if it exited with a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
}

impl Entry {
    /// Whether the process is alive, as far as the daemon knows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.end.is_none()
    }

    /// The command line: the arguments, joined by spaces, or the executable if there are none.
    #[must_use]
    pub fn command_line(&self) -> String {
        self.process.command_line()
    }
}

impl Process {
    /// The identity of the process within its boot.
    #[must_use]
    pub fn key(&self) -> ProcessKey {
        ProcessKey::new(self.pid, self.start_ticks)
    }

    /// The identity of the process across boots, in the form that events have as `entity_id`.
    #[must_use]
    pub fn entity_id(&self) -> String {
        self.key().entity_id(self.boot).to_string()
    }

    /// The command line: the arguments, joined by spaces, or the executable if there are none.
    #[must_use]
    pub fn command_line(&self) -> String {
        if self.command_args.is_empty() {
            self.executable.clone()
        } else {
            self.command_args.join(" ")
        }
    }
}

impl ProcessEnd {
    /// Describes the end of a process, noticed at `time_ns` (since 1970). `ended` is `None` if the
    /// exit status is unknown.
    #[must_use]
    pub fn new(time_ns: u64, ended: Option<Ended>) -> Self {
        let (code, signal) = match ended {
            Some(Ended::Code(code)) => (Some(code), None),
            Some(Ended::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        Self { time_ns, code, signal }
    }

    /// The exit code, or the signal that ended the process; `None` if neither is known.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.code.map(Ended::Code).or(self.signal.map(Ended::Signal))
    }
}

impl From<&Entry> for api::Entry {
    fn from(entry: &Entry) -> Self {
        let process = &entry.process;
        Self {
            id: entry.id,
            name: entry.name.clone().unwrap_or_default(),
            tags: entry.tags.iter().cloned().collect(),
            groups: entry.groups.iter().cloned().collect(),
            pid: process.pid,
            start_ticks: process.start_ticks,
            boot: process.boot,
            executable: process.executable.clone(),
            args: process.command_args.clone(),
            escaped: process.escaped,
            args_truncated: process.args_truncated,
            args_redacted: process.args_redacted,
            uid: process.uid,
            created_ns: process.created_ns,
            pidfd_inode: process.pidfd_inode,
            added_ns: entry.added_ns,
            last_seen_ns: entry.last_seen_ns,
            end: entry.end.as_ref().map(api::End::from).into(),
            ..Default::default()
        }
    }
}

impl From<&ProcessEnd> for api::End {
    fn from(end: &ProcessEnd) -> Self {
        let signal = end.ended().and_then(Ended::signal_name).unwrap_or_default();
        Self { time_ns: end.time_ns, code: end.code.map(u32::from), signal, ..Default::default() }
    }
}

impl From<api::Entry> for Entry {
    fn from(entry: api::Entry) -> Self {
        Self {
            id: entry.id,
            name: Some(entry.name).filter(|name| !name.is_empty()),
            tags: entry.tags.into_iter().collect(),
            groups: entry.groups.into_iter().collect(),
            process: Process {
                pid: entry.pid,
                start_ticks: entry.start_ticks,
                boot: entry.boot,
                executable: entry.executable,
                command_args: entry.args,
                escaped: entry.escaped,
                args_truncated: entry.args_truncated,
                args_redacted: entry.args_redacted,
                uid: entry.uid,
                created_ns: entry.created_ns,
                pidfd_inode: entry.pidfd_inode,
            },
            added_ns: entry.added_ns,
            last_seen_ns: entry.last_seen_ns,
            end: entry.end.into_option().map(ProcessEnd::from),
        }
    }
}

impl From<api::End> for ProcessEnd {
    fn from(end: api::End) -> Self {
        Self {
            time_ns: end.time_ns,
            code: end.code.and_then(|code| u8::try_from(code).ok()),
            signal: signal_number(&end.signal).and_then(|number| u8::try_from(number).ok()),
        }
    }
}

/// Parses a signal: `SIGKILL`, `KILL`, `kill`, `SIG34` or `9`. Returns its number, 1 to 64; `None`
/// if there is no such signal.
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // The crate nix has no names for real-time signals: they are accepted, and shown, as `SIG34`.
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return name.parse().ok().filter(|number| (1..=64).contains(number));
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that an entry survives the conversion to protobuf and to JSON, and back.
    #[test]
    fn an_entry_round_trips_through_protobuf_and_json() {
        for end in [
            None,
            Some(ProcessEnd::new(9, Some(Ended::Signal(9)))),
            Some(ProcessEnd::new(9, Some(Ended::Code(3)))),
        ] {
            let entry = Entry {
                id: 7,
                name: Some("web".into()),
                tags: ["a".into(), "b".into()].into(),
                groups: ["g".into()].into(),
                process: Process {
                    pid: 12,
                    start_ticks: 34,
                    boot: 0xc0ff_ee00,
                    executable: "/bin/sleep".into(),
                    command_args: vec!["sleep".into(), "\\xff".into()],
                    escaped: true,
                    uid: Some(0),
                    created_ns: 5,
                    pidfd_inode: Some(99),
                    ..Default::default()
                },
                added_ns: 6,
                last_seen_ns: 8,
                end,
            };
            assert_eq!(Entry::from(api::Entry::from(&entry)), entry);
            let line = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry, "{line}");
        }
    }

    /// Check each accepted notation of a signal, and texts that are rejected.
    #[test]
    fn a_signal_is_parsed_from_name_or_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(signal_number(text), Some(15), "{text}");
        }
        assert_eq!(signal_number("SIG34"), Some(34));
        for text in ["", "0", "65", "NOPE", "-1", "SIG"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}
