//! What a report says, for every format. Its JSON form is `lookout report -o json`; docs/report.md
//! describes the fields.
//!
//! Texts that a container chose are here as they are, except [`Program::command`], which is escaped
//! for printing. Each renderer escapes them for its own format.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::model::rfc3339;

/// The version of the JSON document. A field may be added without a new version.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// A time in nanoseconds since 1970; RFC 3339 in UTC in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) u64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// The life of a container, or a part of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) schema_version: u32,
    pub(super) container: Names,
    /// The time that the report covers.
    pub(super) from: Time,
    pub(super) to: Time,
    pub(super) duration_ns: u64,
    /// Whether the container still ran at the end of that time.
    pub(super) is_running: bool,
    /// The process with which the container began; the last one if it ran several times.
    pub(super) init: Option<usize>,
    pub(super) counts: Counts,
    /// Parents come before their children. The id of a process is its index.
    pub(super) processes: Vec<Process>,
    pub(super) execs: Vec<Exec>,
    pub(super) ports: Vec<Port>,
    pub(super) gaps: Vec<Gap>,
    /// One for each run of the container that was deleted.
    pub(super) accounts: Vec<Account>,
}

/// The names of a container. Those in Kubernetes are empty outside of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Names {
    pub(super) namespace: String,
    pub(super) id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) k8s_namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) pod_uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) processes: usize,
    pub(super) failures: usize,
    pub(super) running: usize,
    pub(super) execs: usize,
    pub(super) ports: usize,
    pub(super) gaps: usize,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Process {
    pub(super) id: usize,
    pub(super) parent: Option<usize>,
    /// The number of its ancestors in the report.
    pub(super) depth: usize,
    pub(super) children: Vec<usize>,
    pub(super) pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vpid: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) entity_id: String,
    pub(super) origin: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) exec_id: String,
    #[serde(flatten)]
    pub(super) program: Program,
    /// Whether it ran no program of its own, so that the program is its parent's.
    pub(super) is_fork: bool,
    /// `null` if the start is not known.
    pub(super) start: Option<Time>,
    /// `null` if it still runs, or if no end was seen.
    pub(super) end: Option<Time>,
    pub(super) duration_ns: Option<u64>,
    pub(super) state: State,
    /// 0 to 255, or 128 + the signal.
    pub(super) status: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) signal: String,
    pub(super) oom_killed: bool,
    /// From when to when it is drawn, within the time of the report.
    #[serde(skip)]
    pub(super) bar: (u64, u64),
}

/// What a process runs.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Program {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) executable: Option<String>,
    pub(super) command_args: Vec<String>,
    /// Whether a text is not UTF-8: then such bytes are `\xHH`, and backslashes are doubled.
    pub(super) escaped: bool,
    pub(super) args_truncated: bool,
    /// The command line, as it is printed for people.
    #[serde(skip)]
    pub(super) command: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It lived, or was open, at the end of the report.
    #[default]
    Running,
    Ended,
    /// It has ended, and no event says when.
    Unknown,
}

/// What an Exec request has started.
#[derive(Debug, Serialize)]
pub(super) struct Exec {
    pub(super) exec_id: String,
    /// Its first process.
    pub(super) process: usize,
    /// How many processes it consists of, with the first one.
    pub(super) processes: usize,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Port {
    pub(super) transport: String,
    pub(super) address: String,
    pub(super) port: u32,
    pub(super) scope: String,
    pub(super) dual_stack: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network_namespace: Option<u32>,
    /// `null` if it was open before the first known event.
    pub(super) open: Option<Time>,
    pub(super) close: Option<Time>,
    pub(super) state: State,
    pub(super) owners: Vec<Owner>,
    #[serde(skip)]
    pub(super) bar: (u64, u64),
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Owner {
    pub(super) pid: i32,
    /// The process in the report.
    pub(super) process: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) executable: Option<String>,
    #[serde(skip)]
    pub(super) entity_id: String,
}

/// A time in which events are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Gap {
    pub(super) from: Time,
    pub(super) to: Time,
    pub(super) stage: String,
    /// `null`: not counted.
    pub(super) lost: Option<u64>,
}

/// The account of a run of the container: seen = delivered + lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    pub(super) closed: Time,
    pub(super) seen: Option<u64>,
    pub(super) delivered: u64,
    pub(super) lost: Option<u64>,
    pub(super) runtime: u64,
}

impl Report {
    /// The name of the container for a title: pod and container in Kubernetes, else its id.
    pub(super) fn title(&self) -> String {
        let Names { namespace, id, pod, name, .. } = &self.container;
        match (pod.is_empty(), name.is_empty()) {
            (true, _) => format!("{namespace}/{id}"),
            (false, true) => pod.clone(),
            (false, false) => format!("{pod}/{name}"),
        }
    }

    /// The time since the beginning of the report, with milliseconds: `+1.012s`, `+3:04.500`,
    /// `+1:03:04.500`. `earlier` if it is before that, or not known.
    pub(super) fn offset(&self, time: Option<Time>) -> String {
        let since_ns = time.and_then(|time| time.0.checked_sub(self.from.0));
        let Some(millis) = since_ns.map(|ns| ns / 1_000_000) else { return "earlier".to_owned() };
        let (seconds, millis) = (millis / 1000, millis % 1000);
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => format!("+{seconds}.{millis:03}s"),
            (0, minutes, seconds) => format!("+{minutes}:{seconds:02}.{millis:03}"),
            (hours, minutes, seconds) => format!("+{hours}:{minutes:02}:{seconds:02}.{millis:03}"),
        }
    }

    /// The failed processes, in the order of their ends: the first is most often the reason of the
    /// others.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Process> {
        let mut failed: Vec<&Process> =
            self.processes.iter().filter(|process| process.is_failure()).collect();
        failed.sort_by_key(|process| process.end);
        failed.into_iter()
    }
}

impl Process {
    /// Whether it is known to have ended with a status other than 0, or by a signal.
    pub(super) fn is_failure(&self) -> bool {
        self.status.is_some_and(|status| status != 0) || !self.signal.is_empty()
    }

    /// How it ended, in few words.
    pub(super) fn status_text(&self) -> Cow<'_, str> {
        let text = match (self.state, self.code, self.status) {
            (State::Running, ..) => Cow::Borrowed("running"),
            (State::Unknown, ..) => Cow::Borrowed("end not seen"),
            (State::Ended, ..) if !self.signal.is_empty() => Cow::Borrowed(self.signal.as_str()),
            (State::Ended, Some(code), _) => Cow::Owned(format!("exit {code}")),
            (State::Ended, None, Some(status)) => Cow::Owned(format!("status {status}")),
            (State::Ended, None, None) => Cow::Borrowed("status unknown"),
        };
        if self.oom_killed { Cow::Owned(format!("{text} (OOM)")) } else { text }
    }

    /// The origin, with the id of the exec.
    pub(super) fn origin_text(&self) -> String {
        match self.exec_id.is_empty() {
            true => self.origin.clone(),
            false => format!("{}:{}", self.origin, self.exec_id),
        }
    }

    /// As [`origin_text`](Self::origin_text), for a tree, in which a descendant is below the
    /// process that it descends from: then it is empty.
    pub(super) fn origin_in_tree(&self) -> String {
        match self.origin == "descendant" && self.parent.is_some() {
            true => String::new(),
            false => self.origin_text(),
        }
    }
}

impl Port {
    /// The address and the port, such as `tcp 127.0.0.1:80` or `udp [::]:53`.
    pub(super) fn endpoint(&self) -> String {
        let Self { transport, address, port, .. } = self;
        match address.contains(':') {
            true => format!("{transport} [{address}]:{port}"),
            false => format!("{transport} {address}:{port}"),
        }
    }
}

impl Gap {
    /// What is missing, in few words.
    pub(super) fn lost_text(&self) -> String {
        match self.lost {
            Some(1) => "1 event lost".to_owned(),
            Some(lost) => format!("{lost} events lost"),
            None => "an unknown number of events lost".to_owned(),
        }
    }
}

impl Account {
    /// The sum, as in `lookout events`.
    pub(super) fn sum(&self) -> String {
        let count = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
        format!(
            "seen {} = delivered {} + lost {}",
            count(self.seen),
            self.delivered,
            count(self.lost)
        )
    }
}
