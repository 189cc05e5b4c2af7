//! The rows of the table `events`, made from the shims' events and back.

use containerd_shim_protos::protobuf::{self, Message as _, MessageField};

use crate::{
    api::{self, Container, ContainerClose, Ended, Event, Gap, event::Body},
    model::lossless,
};

/// The value of the column `cgroup` if the path is that of the container's first event.
pub(super) const CONTAINERS_CGROUP: &str = ".";

/// An event as it is stored: what is in columns is not in the encoded event as well.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) time_ns: u64,
    pub(super) monotonic_ns: u64,
    pub(super) type_: String,
    /// The container with its names; `None` for an event of the whole shim.
    pub(super) container: Option<Container>,
    /// 0 if the event is about no process.
    pub(super) pid: i32,
    pub(super) origin: String,
    /// Empty for processes that belong to no exec; `None` if the event is about no process.
    pub(super) exec_id: Option<String>,
    pub(super) exe: Option<String>,
    /// A JSON array of the arguments; `None` if there are none.
    pub(super) args: Option<String>,
    pub(super) status: Option<u32>,
    /// Empty if it is not known.
    pub(super) cgroup: String,
    /// What the event changes about its container.
    pub(super) change: Option<Change>,
    /// The encoded event, without what is in the columns.
    pub(super) event: Vec<u8>,
}

/// A change of a container that an event reports.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Started {
        init_pid: i32,
    },
    Exited(Ended),
    Closed(ContainerClose),
    /// No container has changed. The shim, or the daemon, has lost this number of events; `None` if
    /// they were not counted.
    Lost(Option<u64>),
}

impl Row {
    /// Makes the row of an event; `None` for a hello, which is not stored.
    pub(super) fn new(mut event: Event) -> Option<Self> {
        if event.type_ == "hello" {
            return None;
        }
        let mut row = Self {
            // A column is signed: a broken shim must not make the events of others impossible to
            // store.
            seq: std::mem::take(&mut event.seq).min(i64::MAX.unsigned_abs()),
            time_ns: std::mem::take(&mut event.time_ns).min(i64::MAX.unsigned_abs()),
            monotonic_ns: event.monotonic_ns.min(i64::MAX.unsigned_abs()),
            type_: std::mem::take(&mut event.type_),
            container: event.container.take(),
            ..Self::default()
        };
        event.epoch = String::new();
        row.change = match &event.body {
            Some(Body::ContainerStart(start)) => Some(Change::Started { init_pid: start.init_pid }),
            Some(Body::ContainerClose(account)) => Some(Change::Closed(account.clone())),
            Some(Body::Gap(gap)) => Some(Change::Lost(gap.lost)),
            Some(Body::Process(process)) if process.origin == "init" => {
                process.ended.clone().into_option().map(Change::Exited)
            }
            _ => None,
        };
        if let Some(Body::Process(process)) = &mut event.body {
            row.take_process(process);
        }
        // Encoding into memory fails only for a message beyond 2 GiB.
        row.event = event.write_to_bytes().unwrap_or_default();
        Some(row)
    }

    /// Moves the fields of a process that have a column into the row.
    fn take_process(&mut self, process: &mut api::Process) {
        self.pid = std::mem::take(&mut process.pid);
        self.origin = std::mem::take(&mut process.origin);
        self.exec_id = Some(std::mem::take(&mut process.exec_id));
        self.cgroup = std::mem::take(&mut process.cgroup);
        self.status = process.ended.as_ref().and_then(|ended| ended.status);
        if let Some(path) = process.executable.take() {
            self.exe = Some(lossless(&path).into_owned());
            // What is not UTF-8 is escaped in the column, and kept as it is in the encoded event.
            process.executable = Some(path).filter(|path| std::str::from_utf8(path).is_err());
        }
        if !process.args.is_empty() {
            let texts: Vec<_> = process.args.iter().map(|one| lossless(one)).collect();
            self.args = serde_json::to_string(&texts).ok();
            if process.args.iter().all(|one| std::str::from_utf8(one).is_ok()) {
                process.args.clear();
            }
        }
    }

    /// The row of a gap that this daemon reports: events that it did not store.
    pub(super) fn gap(lost: Option<u64>, time_ns: u64, from_ns: u64, to_ns: u64) -> Self {
        let gap = Gap { lost, stage: "history".to_owned(), from_ns, to_ns, ..Default::default() };
        let event = Event {
            type_: "observer.gap".to_owned(),
            time_ns,
            monotonic_ns: to_ns,
            body: Some(Body::Gap(gap)),
            ..Default::default()
        };
        Self::new(event).unwrap_or_default()
    }

    /// About how many bytes of memory the row takes.
    pub(super) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let names = self.container.as_ref().map_or(0, |one| {
            let described = if one.is_described() { one.compute_size() } else { 0 };
            one.id.len() + one.namespace.len() + usize::try_from(described).unwrap_or(usize::MAX)
        });
        let columns = text(&self.exec_id) + text(&self.exe) + text(&self.args) + self.cgroup.len();
        size_of::<Self>() + self.event.len() + self.type_.len() + columns + names
    }
}

/// The columns of a stored event that have no place in the encoded one.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) seq: u64,
    pub(super) time_ns: u64,
    pub(super) epoch: String,
    pub(super) type_: String,
    /// `None` for an event of the whole shim.
    pub(super) container: Option<Container>,
    pub(super) pid: i32,
    pub(super) origin: String,
    pub(super) exec_id: String,
    pub(super) exe: Option<String>,
    pub(super) args: Option<String>,
    pub(super) cgroup: String,
}

/// The event of a row.
pub(super) fn event_of(columns: Columns, encoded: &[u8]) -> protobuf::Result<Event> {
    let mut event = Event::parse_from_bytes(encoded)?;
    event.seq = columns.seq;
    event.time_ns = columns.time_ns;
    event.epoch = columns.epoch;
    event.type_ = columns.type_;
    event.container = MessageField::from_option(columns.container);
    if let Some(Body::Process(process)) = &mut event.body {
        process.pid = columns.pid;
        process.origin = columns.origin;
        process.exec_id = columns.exec_id;
        process.cgroup = columns.cgroup;
        if process.executable.is_none() {
            process.executable = columns.exe.map(String::into_bytes);
        }
        if process.args.is_empty() {
            let texts: Option<Vec<String>> =
                columns.args.and_then(|args| serde_json::from_str(&args).ok());
            process.args = texts.into_iter().flatten().map(String::into_bytes).collect();
        }
    }
    Ok(event)
}
