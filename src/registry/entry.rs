//! A registered process: as the daemon keeps it, as its file, `snapshot save` and `list -o json`
//! show it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    api,
    model::{Ended, ProcessKey},
};

/// One entry of the registry. Its JSON is the schema of snapshots; times are nanoseconds since
/// 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Never used for another entry.
    pub id: u64,
    /// Several entries may have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In order.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// In order.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Who it is, and what it ran when it was added.
    pub process: Process,
    /// When it was added.
    pub added_ns: u64,
    /// When it was last known to live.
    pub last_seen_ns: u64,
    /// Absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// A process of this or of another boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its start in clock ticks since boot.
    pub start_ticks: u64,
    /// The first 32 bits of the boot id.
    pub boot: u32,
    /// The executable's path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub executable: String,
    /// The arguments, redacted.
    #[serde(default)]
    pub command_args: Vec<String>,
    /// Bytes that are not UTF-8 are `\xHH` here, and a backslash is doubled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub escaped: bool,
    /// The arguments are longer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub args_truncated: bool,
    /// A part of the arguments was replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub args_redacted: bool,
    /// The effective user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// When it began.
    #[serde(default)]
    pub created_ns: u64,
    /// The inode of its pidfd, which no other process of its boot has; absent before Linux 6.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfd_inode: Option<u64>,
}

/// How an entry's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When that was noticed.
    pub time_ns: u64,
    /// The code of an exit; neither this nor a signal where the kernel did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
}

impl Entry {
    /// Whether it lives, as far as the daemon knows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.end.is_none()
    }

    /// The command line, arguments joined by blanks; the executable where there are none.
    #[must_use]
    pub fn command(&self) -> String {
        self.process.command()
    }
}

impl Process {
    /// Who it is in its boot.
    #[must_use]
    pub fn key(&self) -> ProcessKey {
        ProcessKey { pid: self.pid, start_ticks: self.start_ticks }
    }

    /// The name that events have for it.
    #[must_use]
    pub fn entity_id(&self) -> String {
        self.key().entity_id(self.boot).to_string()
    }

    /// The command line, arguments joined by blanks; the executable where there are none.
    #[must_use]
    pub fn command(&self) -> String {
        if self.command_args.is_empty() {
            self.executable.clone()
        } else {
            self.command_args.join(" ")
        }
    }
}

impl End {
    /// An end that was noticed then, with what the kernel told.
    #[must_use]
    pub fn new(time_ns: u64, ended: Option<Ended>) -> Self {
        let (code, signal) = match ended {
            Some(Ended::Code(code)) => (Some(code), None),
            Some(Ended::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        Self { time_ns, code, signal }
    }

    /// What the kernel told.
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

impl From<&End> for api::End {
    fn from(end: &End) -> Self {
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
            end: entry.end.into_option().map(End::from),
        }
    }
}

impl From<api::End> for End {
    fn from(end: api::End) -> Self {
        Self {
            time_ns: end.time_ns,
            code: end.code.and_then(|code| u8::try_from(code).ok()),
            signal: signal_number(&end.signal).and_then(|number| u8::try_from(number).ok()),
        }
    }
}

/// The number of `SIGKILL`, `KILL`, `kill`, `SIG34` or `9`.
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
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

    /// Check that a message and a line of JSON each give back the entry that they were made of.
    #[test]
    fn an_entry_survives_the_wire_and_the_disk() {
        for end in [
            None,
            Some(End::new(9, Some(Ended::Signal(9)))),
            Some(End::new(9, Some(Ended::Code(3)))),
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

    /// Check the ways to write a signal.
    #[test]
    fn a_signal_has_many_names() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(signal_number(text), Some(15), "{text}");
        }
        assert_eq!(signal_number("SIG34"), Some(34));
        for text in ["", "0", "65", "NOPE", "-1", "SIG"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}
