//! Samples the resource usage of registered processes, of their descendants and of the processes of
//! containers, page by page.
//!
//! A page begins after the last process of the page before it, by the order of [`UsagePosition`].
//! Nothing is kept between two pages: a process that ends meanwhile is missing, and one that starts
//! is on a page that is still to come, or on none.

use std::collections::{HashMap, HashSet};

use protobuf::Message as _;
use serde::{Deserialize, Serialize};

use crate::{
    api,
    clock::monotonic_ns,
    linux::process::{ProcessTable, usage},
    model::{ProcessKey, lossless},
    registry::{entry::Entry, inspector::Inspector},
};

/// The size in bytes after which a page ends, because ttrpc allows 4 MiB for a message. One process
/// adds some KiB at most.
const PAGE_BYTES: u64 = 2 << 20;

/// A place in the list of sampled processes: that of one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum UsagePosition {
    /// A process that is registered, or that descends from a registered one.
    Registered {
        /// The id of the entry.
        entry: u64,
        /// The pid of the descendant; 0 for the process of the entry itself, which comes first.
        descendant: i32,
    },
    /// A process of a container that is neither.
    Contained {
        /// The containerd namespace, and the id of the container.
        container: (String, String),
        /// When the process started, so that parents usually come before their children.
        created_ns: u64,
        /// The pid of the process.
        pid: i32,
    },
}

/// What is to be sampled.
#[derive(Debug, Default)]
pub(super) struct SampledProcesses {
    /// The entries of living processes, in the order of their ids.
    pub entries: Vec<Entry>,
    /// Whether the descendants of their processes are sampled too.
    pub with_descendants: bool,
    /// The processes of containers to sample, or to name the container of a registered one.
    pub contained: Vec<api::ContainerProcess>,
    /// The containers that are idle.
    pub idle: Vec<api::Container>,
}

/// A process to sample.
enum Row<'a> {
    Entry(&'a Entry),
    Descendant(&'a Entry, ProcessKey),
    Contained(&'a api::ContainerProcess),
}

impl SampledProcesses {
    /// Samples the processes after a position, until the page is full. `next` of the answer is left
    /// empty: it is the returned position, which is `None` on the last page. Blocks for
    /// microseconds a process, because it reads `/proc`.
    #[must_use]
    pub(super) fn page(
        &self,
        inspector: &Inspector,
        after: Option<&UsagePosition>,
    ) -> (api::SampleResponse, Option<UsagePosition>) {
        let containers: HashMap<&str, &api::ContainerProcess> = self
            .contained
            .iter()
            .map(|one| (one.process.get_or_default().entity_id.as_str(), one))
            .collect();
        let idle: HashSet<_> = self.idle.iter().map(|one| (&one.namespace, &one.id)).collect();
        let mut answer = api::SampleResponse { monotonic_ns: monotonic_ns(), ..Default::default() };
        let mut bytes = 0;
        for (position, row) in self.rows(inspector.boot) {
            if after.is_some_and(|after| position <= *after) {
                continue;
            }
            // The process may have ended.
            let Some(mut usage) = row.sample(inspector) else { continue };
            if let Some(member) = containers.get(usage.entity_id.as_str()) {
                usage.container = member.container.clone();
                let container = member.container.get_or_default();
                usage.idle = idle.contains(&(&container.namespace, &container.id));
            }
            bytes += usage.compute_size();
            answer.usages.push(usage);
            if bytes > PAGE_BYTES {
                return (answer, Some(position));
            }
        }
        (answer, None)
    }

    /// All processes to sample, in order.
    fn rows(&self, boot: u32) -> Vec<(UsagePosition, Row<'_>)> {
        let registered: HashMap<ProcessKey, &Entry> =
            self.entries.iter().map(|entry| (entry.process.key(), entry)).collect();
        let position =
            |entry: &Entry, descendant| UsagePosition::Registered { entry: entry.id, descendant };
        let mut rows: Vec<_> =
            self.entries.iter().map(|one| (position(one, 0), Row::Entry(one))).collect();
        let mut listed: HashSet<String> =
            self.entries.iter().map(|entry| entry.process.entity_id()).collect();
        if self.with_descendants {
            for (key, entry) in ProcessTable::read().unwrap_or_default().nearest(&registered) {
                listed.insert(key.entity_id(boot).to_string());
                rows.push((position(entry, key.pid), Row::Descendant(entry, key)));
            }
        }
        for one in &self.contained {
            let process = one.process.get_or_default();
            if listed.contains(&process.entity_id) {
                continue;
            }
            let container = one.container.get_or_default();
            let position = UsagePosition::Contained {
                container: (container.namespace.clone(), container.id.clone()),
                created_ns: process.created_ns,
                pid: process.pid,
            };
            rows.push((position, Row::Contained(one)));
        }
        rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        rows
    }
}

impl Row<'_> {
    /// The resource usage of the process; `None` if it has ended.
    fn sample(&self, inspector: &Inspector) -> Option<api::Usage> {
        match self {
            Self::Entry(entry) => {
                let process = &entry.process;
                let mut usage = process_usage(process.key())?;
                usage.id = entry.id;
                usage.entity_id = process.entity_id();
                usage.name = entry.name.clone().unwrap_or_default();
                usage.command = process.command_line();
                usage.created_ns = process.created_ns;
                Some(usage)
            }
            Self::Descendant(entry, key) => {
                let mut usage = process_usage(*key)?;
                usage.entity_id = key.entity_id(entry.process.boot).to_string();
                usage.descends_from = entry.id;
                usage.command = inspector.command_line(*key);
                Some(usage)
            }
            Self::Contained(member) => {
                let process = member.process.get_or_default();
                let mut usage = process_usage(super::kill::key_of(member)?)?;
                usage.entity_id = process.entity_id.clone();
                usage.command = lossless(&process.args.join(&b' ')).into_owned();
                usage.created_ns = process.created_ns;
                Some(usage)
            }
        }
    }
}

/// The resource usage of a process; `None` if the process has ended.
fn process_usage(key: ProcessKey) -> Option<api::Usage> {
    let read = usage(key)?;
    Some(api::Usage {
        pid: key.pid,
        cpu_ns: read.cpu_ns,
        monotonic_ns: monotonic_ns(),
        rss_bytes: read.rss_bytes,
        read_bytes: read.io.map(|(read, _)| read),
        written_bytes: read.io.map(|(_, written)| written),
        fds: read.fds,
        threads: read.threads,
        ..Default::default()
    })
}
