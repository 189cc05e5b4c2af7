//! The Registry service: decodes requests, asks the registry's owner, encodes the answers.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
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

/// The default number, and the largest number, of entries in a page of the answer to `List`.
const PAGE_ENTRIES: (u32, u32) = (1000, 5000);

/// The size in bytes after which a page of entries ends, because ttrpc allows 4 MiB for a message.
const PAGE_BYTES: usize = 2 << 20;

/// The most bytes of an answer: the 4 MiB that ttrpc allows for a message, less space for its
/// envelope.
const ANSWER_BYTES_MAX: usize = (4 << 20) - 4096;

/// The most entries that one `Load` request may have.
const LOAD_ENTRIES_MAX: usize = 1000;

/// Implements the Registry service of `proto/`.
#[derive(Debug, Clone)]
pub struct RegistryService {
    owner: RegistryHandle,
    inspector: Arc<Inspector>,
    node: Option<Node>,
    started_ns: u64,
}

impl RegistryService {
    /// Makes the service for the registry of `owner`. `node` is `None` if this daemon does not
    /// follow the node's shims.
    #[must_use]
    pub fn new(owner: RegistryHandle, inspector: Arc<Inspector>, node: Option<Node>) -> Self {
        Self { owner, inspector, node, started_ns: realtime_ns() }
    }

    /// Runs `work` on the registry's thread, and waits until its changes are on disk.
    async fn run_on_registry<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RegistryOwner) -> Result<T, Refusal> + Send + 'static,
    ) -> ttrpc::Result<T> {
        self.owner.request(work).await.map_err(refusal_status)
    }

    /// The node; an error if this daemon does not follow its shims.
    fn followed_node(&self) -> ttrpc::Result<&Node> {
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
impl registry::Registry for RegistryService {
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
        // `/proc` is not read on the registry's thread, because that would delay other changes.
        let inspector = self.inspector.clone();
        let inspected = run_blocking(move || inspector.inspect(pid, &will_run)).await?;
        let (pidfd, process) = inspected.map_err(refusal_status)?;
        let new = NewEntry { process, name, tags, groups };
        let entry = self.run_on_registry(move |owner| owner.add(new, pidfd)).await?;
        Ok(api::AddResponse { entry: Some(api::Entry::from(&entry)).into(), ..Default::default() })
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: api::ListRequest,
    ) -> ttrpc::Result<api::ListResponse> {
        let selector = Selector::from(request.selector.unwrap_or_default());
        let limit =
            if request.limit == 0 { PAGE_ENTRIES.0 } else { request.limit.min(PAGE_ENTRIES.1) };
        let after = request.after_id;
        self.run_on_registry(move |owner| {
            let mut entries = Vec::new();
            let mut bytes = 0;
            let mut more = false;
            for entry in owner.registry().select(&selector, after) {
                if entries.len() as u64 >= u64::from(limit) || bytes > PAGE_BYTES {
                    more = true;
                    break;
                }
                let entry = api::Entry::from(&owner.as_of_now(entry));
                bytes += encoded_size(&entry);
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
        self.run_on_registry(move |owner| {
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
            return Err(refusal_status(Refusal::NoSignal { number }));
        }
        let selector = Selector::from(selector.unwrap_or_default());
        let targets =
            self.run_on_registry(move |owner| signal_targets(owner, &selector, all)).await?;
        let signalled = run_blocking(move || signal_processes(targets, number, tree))
            .await?
            .map_err(refusal_status)?;
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
        // An ended process uses no resources, even if its pid has been reused.
        selector.alive = true;
        let selected: Vec<Entry> = self
            .run_on_registry(move |owner| {
                Ok(owner.registry().select(&selector, 0).cloned().collect())
            })
            .await?;
        let inspector = self.inspector.clone();
        let node = self.node.as_ref().filter(|_| request.containers);
        let contained = node.map(Node::processes).unwrap_or_default();
        let idle = node.map(Node::idle_containers).unwrap_or_default();
        let answer = run_blocking(move || api::SampleResponse {
            usages: mark_idle(
                sample_usages(&inspector, &selected, request.tree, &contained),
                &idle,
            ),
            monotonic_ns: monotonic_ns(),
            ..Default::default()
        });
        check_answer_size(answer.await?)
    }

    async fn load(
        &self,
        _: &TtrpcContext,
        request: api::LoadRequest,
    ) -> ttrpc::Result<api::LoadResponse> {
        if request.entries.len() > LOAD_ENTRIES_MAX {
            let message = format!("more than {LOAD_ENTRIES_MAX} entries in one request");
            return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(
                Code::INVALID_ARGUMENT,
                message,
            )));
        }
        let entries = request.entries.into_iter().map(Entry::from).collect();
        let ids = self.run_on_registry(move |owner| owner.load(entries)).await?;
        Ok(api::LoadResponse { ids, ..Default::default() })
    }

    async fn reset(
        &self,
        _: &TtrpcContext,
        request: api::ResetRequest,
    ) -> ttrpc::Result<api::ResetResponse> {
        let removed = self
            .run_on_registry(move |owner| {
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
        request: api::NodeProcessesRequest,
    ) -> ttrpc::Result<api::NodeProcessesResponse> {
        let node = self.followed_node()?;
        let after = position(&request.page)?;
        let mut answer = api::NodeProcessesResponse::new();
        if after.is_none() {
            (answer.shims, answer.idle) = (node.shims(), node.idle_containers());
        }
        let (processes, next) = node.processes_page(after);
        (answer.processes, answer.next) = (processes, token(next.as_ref()));
        Ok(answer)
    }

    async fn node_ports(
        &self,
        _: &TtrpcContext,
        request: api::NodePortsRequest,
    ) -> ttrpc::Result<api::NodePortsResponse> {
        let node = self.followed_node()?;
        let after = position(&request.page)?;
        let mut answer = api::NodePortsResponse::new();
        if after.is_none() {
            answer.shims = node.shims();
        }
        let (ports, next) = node.ports_page(after);
        (answer.ports, answer.next) = (ports, token(next.as_ref()));
        Ok(answer)
    }
}

/// The living processes to which a `Kill` request sends its signal. A process that has ended is an
/// error only if its entry was given by id, or if all processes have ended.
fn signal_targets(
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

/// Samples the resource usage of registered processes; with `tree`, each is followed by its
/// descendants. After them comes the usage of the processes of containers that are not registered.
fn sample_usages(
    inspector: &Inspector,
    entries: &[Entry],
    tree: bool,
    contained: &[api::ContainerProcess],
) -> Vec<api::Usage> {
    let mut usages: Vec<api::Usage> = Vec::new();
    let registered: HashSet<ProcessKey> = entries.iter().map(|entry| entry.process.key()).collect();
    for entry in entries {
        usages.extend(entry_usage(entry));
        if tree {
            let descendants =
                descendant_usages(inspector, entry).filter(|(key, _)| !registered.contains(key));
            usages.extend(descendants.map(|(_, usage)| usage));
        }
    }
    // A process of a container may be registered too. It must have only one row then.
    let mut known: HashMap<String, usize> =
        usages.iter().enumerate().map(|(index, usage)| (usage.entity_id.clone(), index)).collect();
    for member in contained {
        let process = member.process.get_or_default();
        if let Some(usage) = known.get(&process.entity_id).and_then(|index| usages.get_mut(*index))
        {
            // The process is registered and in a container: its row gets the container.
            usage.container = member.container.clone();
            continue;
        }
        let Some(mut usage) =
            process_key_of(&process.entity_id, process.pid).and_then(process_usage)
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

/// The resource usage of the current descendants of an entry's process.
fn descendant_usages(
    inspector: &Inspector,
    entry: &Entry,
) -> impl Iterator<Item = (ProcessKey, api::Usage)> {
    let root = entry.process.key();
    let pids = of_tree(root.pid, &[root]).unwrap_or_default();
    pids.into_iter().filter(move |pid| *pid != root.pid).filter_map(move |pid| {
        let key = identify(pid)?;
        let mut usage = process_usage(key)?;
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

/// The resource usage of the process of an entry; `None` if the process has ended.
fn entry_usage(entry: &Entry) -> Option<api::Usage> {
    let process = &entry.process;
    let mut usage = process_usage(process.key())?;
    usage.id = entry.id;
    usage.entity_id = process.entity_id();
    usage.name = entry.name.clone().unwrap_or_default();
    usage.command = process.command_line();
    usage.created_ns = process.created_ns;
    Some(usage)
}

/// The resource usage of a process; `None` if the process has ended.
fn process_usage(key: ProcessKey) -> Option<api::Usage> {
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

/// The position that `page` of a request names; `None` for the first page.
fn position<T: DeserializeOwned>(page: &str) -> ttrpc::Result<Option<T>> {
    let page = Some(page).filter(|page| !page.is_empty());
    page.map(serde_json::from_str).transpose().map_err(|_| {
        let message = format!("page {:?} was never in a response", page.unwrap_or_default());
        ttrpc::Error::RpcStatus(ttrpc::get_status(Code::INVALID_ARGUMENT, message))
    })
}

/// The text of `next` in a response; empty on the last page.
fn token(next: Option<&impl Serialize>) -> String {
    next.and_then(|next| serde_json::to_string(next).ok()).unwrap_or_default()
}

/// The size of an encoded message in bytes.
fn encoded_size(message: &impl protobuf::Message) -> usize {
    usize::try_from(message.compute_size()).unwrap_or(usize::MAX)
}

/// Refuses an answer that does not fit into a message of ttrpc, because sending it would end the
/// connection.
fn check_answer_size<T: protobuf::Message>(answer: T) -> ttrpc::Result<T> {
    if encoded_size(&answer) <= ANSWER_BYTES_MAX {
        return Ok(answer);
    }
    let message = format!("too many processes for an answer of {ANSWER_BYTES_MAX} bytes");
    Err(ttrpc::Error::RpcStatus(ttrpc::get_status(Code::RESOURCE_EXHAUSTED, message)))
}

/// Runs work that reads `/proc` on another thread, because the work would delay the answers to all
/// other clients.
async fn run_blocking<T: Send + 'static>(
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
fn refusal_status(refusal: Refusal) -> ttrpc::Error {
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
