//! The Registry service: decodes requests, asks the registry's owner, encodes the answers.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::spawn_blocking;
use ttrpc::{
    Code,
    r#async::{ServerStreamSender, TtrpcContext},
};

use super::{history, kill, node::Node, usage::SampledProcesses};
use crate::{
    api::{self, registry},
    clock::realtime_ns,
    model::chain,
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
        let api::KillRequest { selector, all, signal: number, tree, all_descendants, exec, .. } =
            request;
        if !(1..=64).contains(&number) {
            return Err(refusal_status(Refusal::NoSignal { number }));
        }
        let mut targets = match exec.into_option() {
            Some(exec) => {
                let target = kill::exec_target(self.followed_node()?, &exec);
                vec![target.map_err(ttrpc::Error::RpcStatus)?]
            }
            None => {
                let selector = Selector::from(selector.unwrap_or_default());
                self.run_on_registry(move |owner| signal_targets(owner, &selector, all)).await?
            }
        };
        // The other processes of an exec are part of it, whether their parents live or not.
        let is_tree = tree || all_descendants || targets.iter().any(|one| !one.others.is_empty());
        let node = self.node.as_ref().filter(|_| is_tree);
        let recorded = node
            .map(|node| kill::recorded_descendants(node, self.inspector.boot, &targets))
            .unwrap_or_default();
        if let Some(target) = targets.first_mut().filter(|_| all_descendants) {
            target.others.extend(recorded.iter().filter_map(kill::key_of));
        }
        let (signalled, left) = run_blocking(move || {
            let signalled = signal_processes(targets, number, is_tree)?;
            let left = kill::left(recorded, &signalled);
            Ok((signalled, left))
        })
        .await?
        .map_err(refusal_status)?;
        Ok(api::KillResponse {
            ids: signalled.ids,
            processes: signalled.processes,
            left,
            ..Default::default()
        })
    }

    async fn sample(
        &self,
        _: &TtrpcContext,
        request: api::SampleRequest,
    ) -> ttrpc::Result<api::SampleResponse> {
        let after = position(&request.page)?;
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
        let sampled = SampledProcesses {
            entries: selected,
            with_descendants: request.tree,
            contained: node.map(Node::processes).unwrap_or_default(),
            idle: node.map(Node::idle_containers).unwrap_or_default(),
        };
        let (mut answer, next) =
            run_blocking(move || sampled.page(&inspector, after.as_ref())).await?;
        answer.next = token(next.as_ref());
        Ok(answer)
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

    async fn history_events(
        &self,
        _: &TtrpcContext,
        request: api::HistoryEventsRequest,
        sender: ServerStreamSender<api::HistoryEventsResponse>,
    ) -> ttrpc::Result<()> {
        history::answer_events(self.followed_node()?.history(), request, &sender).await
    }

    async fn history_containers(
        &self,
        _: &TtrpcContext,
        request: api::HistoryContainersRequest,
        sender: ServerStreamSender<api::HistoryContainersResponse>,
    ) -> ttrpc::Result<()> {
        history::answer_containers(self.followed_node()?.history(), request, &sender).await
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
                let (key, others) = (entry.process.key(), Vec::new());
                targets.push(SignalTarget { id, key, pidfd, others });
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
