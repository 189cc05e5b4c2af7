//! The Registry service: decodes requests, asks the registry's owner, encodes the answers.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use ttrpc::{Code, r#async::TtrpcContext};

use super::node::Node;
use crate::{
    api::{self, registry},
    clock::{monotonic_ns, realtime_ns},
    linux::process::{identify, of_tree, usage as read_usage},
    model::{ProcessKey, chain, lossless},
    registry::{
        Change, EntryEdit, NewEntry, Refusal, RefusalKind, Selector,
        entry::Entry,
        inspector::Inspector,
        kill::{SignalTarget, signal_processes},
        owner::{RegistryHandle, RegistryOwner},
    },
};

/// The default number and the largest number of entries in a page.
const PAGE: (u32, u32) = (1000, 5000);

/// A page ends after this many bytes, because ttrpc allows 4 MiB for a message.
const PAGE_BYTES: usize = 2 << 20;

/// The most bytes of an answer: ttrpc's limit of 4 MiB, without some space for the envelope.
const ANSWER_MAX: usize = (4 << 20) - 4096;

/// The most entries of a snapshot that one request may have.
const LOAD_MAX: usize = 1000;

/// Implements the Registry service of `proto/`.
#[derive(Debug, Clone)]
pub struct Service {
    owner: RegistryHandle,
    inspector: Arc<Inspector>,
    node: Option<Node>,
    started_ns: u64,
}

impl Service {
    /// A service for a registry. `node` is `None` if this daemon does not follow the node's shims.
    #[must_use]
    pub fn new(owner: RegistryHandle, inspector: Arc<Inspector>, node: Option<Node>) -> Self {
        Self { owner, inspector, node, started_ns: realtime_ns() }
    }

    /// Runs `work` on the registry's thread, and waits until its changes are on disk.
    async fn request<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RegistryOwner) -> Result<T, Refusal> + Send + 'static,
    ) -> ttrpc::Result<T> {
        self.owner.request(work).await.map_err(status)
    }

    fn node(&self) -> ttrpc::Result<&Node> {
        let refusal = || {
            ttrpc::get_status(
                Code::FAILED_PRECONDITION,
                "this daemon follows no shims: only the daemon of root does",
            )
        };
        self.node.as_ref().ok_or_else(|| ttrpc::Error::RpcStatus(refusal()))
    }
}

#[async_trait]
impl registry::Registry for Service {
    async fn ping(
        &self,
        _: &TtrpcContext,
        _: api::PingRequest,
    ) -> ttrpc::Result<api::PingResponse> {
        Ok(api::PingResponse {
            pid: std::process::id().cast_signed(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ns: self.started_ns,
            ..Default::default()
        })
    }

    async fn add(
        &self,
        _: &TtrpcContext,
        request: api::AddRequest,
    ) -> ttrpc::Result<api::AddResponse> {
        let api::AddRequest { pid, name, tags, groups, will_run, .. } = request;
        // Not on the registry's thread: reading `/proc` must not delay other changes.
        let inspector = self.inspector.clone();
        let inspected = blocking(move || inspector.inspect(pid, &will_run)).await?;
        let (pidfd, process) = inspected.map_err(status)?;
        let new = NewEntry { process, name, tags, groups };
        let entry = self.request(move |owner| owner.add(new, pidfd)).await?;
        Ok(api::AddResponse { entry: Some(api::Entry::from(&entry)).into(), ..Default::default() })
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: api::ListRequest,
    ) -> ttrpc::Result<api::ListResponse> {
        let selector = Selector::from(request.selector.unwrap_or_default());
        let limit = if request.limit == 0 { PAGE.0 } else { request.limit.min(PAGE.1) };
        let after = request.after_id;
        self.request(move |owner| {
            let mut entries = Vec::new();
            let mut bytes = 0;
            let mut more = false;
            for entry in owner.registry().select(&selector, after) {
                if entries.len() as u64 >= u64::from(limit) || bytes > PAGE_BYTES {
                    more = true;
                    break;
                }
                let entry = api::Entry::from(&owner.as_of_now(entry));
                bytes += size(&entry);
                entries.push(entry);
            }
            Ok(api::ListResponse { entries, more, ..Default::default() })
        })
        .await
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateRequest,
    ) -> ttrpc::Result<api::UpdateResponse> {
        let api::UpdateRequest {
            selector,
            all,
            add_tags,
            remove_tags,
            add_groups,
            remove_groups,
            name,
            remove,
            ..
        } = request;
        let selector = Selector::from(selector.unwrap_or_default());
        let edit = EntryEdit { add_tags, remove_tags, add_groups, remove_groups, name };
        self.request(move |owner| {
            let ids = owner.registry().resolve_ids(&selector, all)?;
            let change = match (remove, edit.is_empty()) {
                (true, true) => Change::Remove { ids: ids.clone() },
                (true, false) => return Err(Refusal::NothingToDo),
                (false, _) => owner.registry().plan_edit(ids.clone(), edit)?,
            };
            owner.commit(vec![change])?;
            Ok(api::UpdateResponse { ids, ..Default::default() })
        })
        .await
    }

    async fn kill(
        &self,
        _: &TtrpcContext,
        request: api::KillRequest,
    ) -> ttrpc::Result<api::KillResponse> {
        let api::KillRequest { selector, all, signal: number, tree, .. } = request;
        if !(1..=64).contains(&number) {
            return Err(status(Refusal::NoSignal { number }));
        }
        let selector = Selector::from(selector.unwrap_or_default());
        let targets = self.request(move |owner| targets(owner, &selector, all)).await?;
        let signalled =
            blocking(move || signal_processes(targets, number, tree)).await?.map_err(status)?;
        Ok(api::KillResponse {
            ids: signalled.ids,
            processes: signalled.processes,
            ..Default::default()
        })
    }

    async fn sample(
        &self,
        _: &TtrpcContext,
        request: api::SampleRequest,
    ) -> ttrpc::Result<api::SampleResponse> {
        let mut selector = Selector::from(request.selector.unwrap_or_default());
        // An ended process has no usage, even if its pid has been reused.
        selector.alive = true;
        let selected: Vec<Entry> = self
            .request(move |owner| Ok(owner.registry().select(&selector, 0).cloned().collect()))
            .await?;
        let inspector = self.inspector.clone();
        let node = self.node.as_ref().filter(|_| request.containers);
        let contained = node.map(Node::processes).unwrap_or_default();
        let idle = node.map(Node::idle).unwrap_or_default();
        let answer = blocking(move || api::SampleResponse {
            usages: mark_idle(usages(&inspector, &selected, request.tree, &contained), &idle),
            monotonic_ns: monotonic_ns(),
            ..Default::default()
        });
        fitting(answer.await?)
    }

    async fn load(
        &self,
        _: &TtrpcContext,
        request: api::LoadRequest,
    ) -> ttrpc::Result<api::LoadResponse> {
        if request.entries.len() > LOAD_MAX {
            let message = format!("more than {LOAD_MAX} entries in one request");
            return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(
                Code::INVALID_ARGUMENT,
                message,
            )));
        }
        let entries = request.entries.into_iter().map(Entry::from).collect();
        let ids = self.request(move |owner| owner.load(entries)).await?;
        Ok(api::LoadResponse { ids, ..Default::default() })
    }

    async fn reset(
        &self,
        _: &TtrpcContext,
        request: api::ResetRequest,
    ) -> ttrpc::Result<api::ResetResponse> {
        let removed = self
            .request(move |owner| {
                if request.confirm != "RESET" {
                    return Err(Refusal::Unconfirmed);
                }
                let count = owner.registry().len() as u64;
                owner.commit(vec![Change::Reset])?;
                Ok(count)
            })
            .await?;
        Ok(api::ResetResponse { removed, ..Default::default() })
    }

    async fn node_processes(
        &self,
        _: &TtrpcContext,
        _: api::NodeProcessesRequest,
    ) -> ttrpc::Result<api::NodeProcessesResponse> {
        let node = self.node()?;
        let (processes, shims, idle) = (node.processes(), node.shims(), node.idle());
        fitting(api::NodeProcessesResponse { processes, shims, idle, ..Default::default() })
    }

    async fn node_ports(
        &self,
        _: &TtrpcContext,
        _: api::NodePortsRequest,
    ) -> ttrpc::Result<api::NodePortsResponse> {
        let node = self.node()?;
        fitting(api::NodePortsResponse {
            ports: node.ports(),
            shims: node.shims(),
            ..Default::default()
        })
    }
}

/// The living processes to which a signal is to be sent. A process that has ended is an error only
/// if its entry was given by id, or if all processes have ended.
fn targets(
    owner: &RegistryOwner,
    selector: &Selector,
    all: bool,
) -> Result<Vec<SignalTarget>, Refusal> {
    let ids = owner.registry().resolve_ids(selector, all)?;
    let mut targets = Vec::with_capacity(ids.len());
    let mut dead = None;
    for id in ids {
        match owner.entry_with_pidfd(id) {
            Ok((entry, pidfd)) => {
                targets.push(SignalTarget { id, key: entry.process.key(), pidfd })
            }
            Err(refusal) if !selector.ids.is_empty() => return Err(refusal),
            Err(refusal) => dead = Some(refusal),
        }
    }
    match dead {
        Some(dead) if targets.is_empty() => Err(dead),
        _ => Ok(targets),
    }
}

/// The usage of registered processes; with `tree`, each is followed by its descendants. After them,
/// the usage of the other processes of containers.
fn usages(
    inspector: &Inspector,
    entries: &[Entry],
    tree: bool,
    contained: &[api::ContainerProcess],
) -> Vec<api::Usage> {
    let mut usages: Vec<api::Usage> = Vec::new();
    let registered: HashSet<ProcessKey> = entries.iter().map(|entry| entry.process.key()).collect();
    for entry in entries {
        usages.extend(usage(entry));
        if tree {
            let descendants =
                descendants(inspector, entry).filter(|(key, _)| !registered.contains(key));
            usages.extend(descendants.map(|(_, usage)| usage));
        }
    }
    // A process of a container may be registered too. Then it must have only one row.
    let mut known: HashMap<String, usize> =
        usages.iter().enumerate().map(|(index, usage)| (usage.entity_id.clone(), index)).collect();
    for member in contained {
        let process = member.process.get_or_default();
        if let Some(usage) = known.get(&process.entity_id).and_then(|index| usages.get_mut(*index))
        {
            // Registered and in a container: one row, with the container's name.
            usage.container = member.container.clone();
            continue;
        }
        let Some(mut usage) = process_key_of(&process.entity_id, process.pid).and_then(usage_of)
        else {
            continue;
        };
        usage.entity_id = process.entity_id.clone();
        usage.container = member.container.clone();
        usage.command = lossless(&process.args.join(&b' ')).into_owned();
        usage.created_ns = process.created_ns;
        known.insert(usage.entity_id.clone(), usages.len());
        usages.push(usage);
    }
    usages
}

/// Marks the usages of processes in idle containers.
fn mark_idle(mut usages: Vec<api::Usage>, idle: &[api::Container]) -> Vec<api::Usage> {
    let idle: HashSet<_> = idle.iter().map(|one| (&one.namespace, &one.id)).collect();
    for usage in &mut usages {
        usage.idle =
            usage.container.as_ref().is_some_and(|one| idle.contains(&(&one.namespace, &one.id)));
    }
    usages
}

/// The current descendants of an entry's process, with their usage.
fn descendants(
    inspector: &Inspector,
    entry: &Entry,
) -> impl Iterator<Item = (ProcessKey, api::Usage)> {
    let root = entry.process.key();
    let pids = of_tree(root.pid, &[root]).unwrap_or_default();
    pids.into_iter().filter(move |pid| *pid != root.pid).filter_map(move |pid| {
        let key = identify(pid)?;
        let mut usage = usage_of(key)?;
        usage.entity_id = key.entity_id(entry.process.boot).to_string();
        usage.descends_from = entry.id;
        usage.command = inspector.command_line(key);
        Some((key, usage))
    })
}

/// The identity of a process, from its entity id: 8 hexadecimal digits of the boot, 8 of the pid,
/// then the digits of the start. `None` if the id is malformed.
fn process_key_of(entity_id: &str, pid: i32) -> Option<ProcessKey> {
    let start_ticks = u64::from_str_radix(entity_id.get(16..)?, 16).ok()?;
    Some(ProcessKey::new(pid, start_ticks))
}

fn usage(entry: &Entry) -> Option<api::Usage> {
    let process = &entry.process;
    let mut usage = usage_of(process.key())?;
    usage.id = entry.id;
    usage.entity_id = process.entity_id();
    usage.name = entry.name.clone().unwrap_or_default();
    usage.command = process.command_line();
    usage.created_ns = process.created_ns;
    Some(usage)
}

fn usage_of(key: ProcessKey) -> Option<api::Usage> {
    let read = read_usage(key)?;
    Some(api::Usage {
        pid: key.pid,
        cpu_ns: read.cpu_ns,
        rss_bytes: read.rss_bytes,
        read_bytes: read.io.map(|(read, _)| read),
        written_bytes: read.io.map(|(_, written)| written),
        fds: read.fds,
        threads: read.threads,
        ..Default::default()
    })
}

fn size(message: &impl protobuf::Message) -> usize {
    usize::try_from(message.compute_size()).unwrap_or(usize::MAX)
}

/// Refuses an answer that does not fit into a message of ttrpc. Sending it would end the
/// connection.
fn fitting<T: protobuf::Message>(answer: T) -> ttrpc::Result<T> {
    if size(&answer) <= ANSWER_MAX {
        return Ok(answer);
    }
    let message = format!("too many processes or ports for an answer of {ANSWER_MAX} bytes");
    Err(ttrpc::Error::RpcStatus(ttrpc::get_status(Code::RESOURCE_EXHAUSTED, message)))
}

/// Runs work that reads `/proc` on another thread, because it would delay the answers to all other
/// clients.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> ttrpc::Result<T> {
    spawn_blocking(work).await.map_err(|error| {
        ttrpc::Error::RpcStatus(ttrpc::get_status(
            Code::INTERNAL,
            format!("the request's work on another thread failed: {error}"),
        ))
    })
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
fn status(refusal: Refusal) -> ttrpc::Error {
    let code = match refusal.kind() {
        RefusalKind::NotFound => Code::NOT_FOUND,
        RefusalKind::Usage => Code::INVALID_ARGUMENT,
        RefusalKind::Exists => Code::ALREADY_EXISTS,
        RefusalKind::State => Code::FAILED_PRECONDITION,
        RefusalKind::Denied => Code::PERMISSION_DENIED,
        RefusalKind::Capacity => Code::RESOURCE_EXHAUSTED,
        RefusalKind::Unavailable => Code::UNAVAILABLE,
    };
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, chain(&refusal)))
}
