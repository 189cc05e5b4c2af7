//! The Registry service: decode, ask the owner, encode.

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
        Change, Edit, Kind, New, Refusal, Selector,
        entry::Entry,
        inspector::Inspector,
        kill::{Target, signal},
        owner::{Handle, RegistryOwner},
    },
};

/// Entries of a page where nothing is said, and at most.
const PAGE: (u32, u32) = (1000, 5000);

/// Bytes of a page's texts: an answer has at most 4 MiB.
const PAGE_BYTES: usize = 2 << 20;

/// Bytes of any answer; the envelope needs a few more.
const ANSWER_MAX: usize = (4 << 20) - 4096;

/// Entries of a snapshot in one request.
const LOAD_MAX: usize = 1000;

/// What answers.
#[derive(Debug, Clone)]
pub struct Service {
    owner: Handle,
    inspector: Arc<Inspector>,
    node: Option<Node>,
    started_ns: u64,
}

impl Service {
    /// For a owner, and for the node's shims where they are followed.
    #[must_use]
    pub fn new(owner: Handle, inspector: Arc<Inspector>, node: Option<Node>) -> Self {
        Self { owner, inspector, node, started_ns: realtime_ns() }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RegistryOwner) -> Result<T, Refusal> + Send + 'static,
    ) -> ttrpc::Result<T> {
        self.owner.ask(work).await.map_err(status)
    }

    fn node(&self) -> ttrpc::Result<&Node> {
        let refusal = || {
            ttrpc::get_status(
                Code::FAILED_PRECONDITION,
                "this daemon follows no shims: root's does",
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
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
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
        let inspector = self.inspector.clone();
        let looked = blocking(move || inspector.look(pid, &will_run)).await?;
        let (pidfd, process) = looked.map_err(status)?;
        let new = New { process, name, tags, groups };
        let entry = self.ask(move |owner| owner.add(new, pidfd)).await?;
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
        self.ask(move |owner| {
            let mut entries = Vec::new();
            let mut bytes = 0;
            let mut more = false;
            for entry in owner.registry().select(&selector, after) {
                if entries.len() as u64 >= u64::from(limit) || bytes > PAGE_BYTES {
                    more = true;
                    break;
                }
                let entry = api::Entry::from(&owner.shown(entry));
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
        let edit = Edit { add_tags, remove_tags, add_groups, remove_groups, name };
        self.ask(move |owner| {
            let ids = owner.registry().chosen(&selector, all)?;
            let change = match (remove, edit.is_empty()) {
                (true, true) => Change::Remove { ids: ids.clone() },
                (true, false) => return Err(Refusal::Nothing),
                (false, _) => owner.registry().edit(ids.clone(), edit)?,
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
        let targets = self.ask(move |owner| targets(owner, &selector, all)).await?;
        let signalled = blocking(move || signal(targets, number, tree)).await?.map_err(status)?;
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
        selector.alive = true;
        let asked: Vec<Entry> = self
            .ask(move |owner| Ok(owner.registry().select(&selector, 0).cloned().collect()))
            .await?;
        let inspector = self.inspector.clone();
        let node = self.node.as_ref().filter(|_| request.containers);
        let contained = node.map(Node::processes).unwrap_or_default();
        let idle = node.map(Node::idle).unwrap_or_default();
        let answer = blocking(move || api::SampleResponse {
            usages: idle_marked(usages(&inspector, &asked, request.tree, &contained), &idle),
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
        let ids = self.ask(move |owner| owner.load(entries)).await?;
        Ok(api::LoadResponse { ids, ..Default::default() })
    }

    async fn reset(
        &self,
        _: &TtrpcContext,
        request: api::ResetRequest,
    ) -> ttrpc::Result<api::ResetResponse> {
        let removed = self
            .ask(move |owner| {
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

/// The living processes that a signal is for. Those that were named and have ended are refused.
fn targets(owner: &RegistryOwner, selector: &Selector, all: bool) -> Result<Vec<Target>, Refusal> {
    let ids = owner.registry().chosen(selector, all)?;
    let mut targets = Vec::with_capacity(ids.len());
    let mut dead = None;
    for id in ids {
        match owner.process_of(id) {
            Ok((entry, pidfd)) => targets.push(Target { id, key: entry.process.key(), pidfd }),
            Err(refusal) if !selector.ids.is_empty() => return Err(refusal),
            Err(refusal) => dead = Some(refusal),
        }
    }
    match dead {
        Some(dead) if targets.is_empty() => Err(dead),
        _ => Ok(targets),
    }
}

/// What is registered, each followed by what descends from it; then what is only contained.
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
    let mut known: HashMap<String, usize> =
        usages.iter().enumerate().map(|(index, usage)| (usage.entity_id.clone(), index)).collect();
    for one in contained {
        let process = one.process.get_or_default();
        if let Some(usage) = known.get(&process.entity_id).and_then(|index| usages.get_mut(*index))
        {
            usage.container = one.container.clone();
            continue;
        }
        let Some(mut usage) = start_of(&process.entity_id, process.pid).and_then(usage_of) else {
            continue;
        };
        usage.entity_id = process.entity_id.clone();
        usage.container = one.container.clone();
        usage.command = lossless(&process.args.join(&b' ')).into_owned();
        usage.created_ns = process.created_ns;
        known.insert(usage.entity_id.clone(), usages.len());
        usages.push(usage);
    }
    usages
}

/// The same, with a mark on those of containers that are idle.
fn idle_marked(mut usages: Vec<api::Usage>, idle: &[api::Container]) -> Vec<api::Usage> {
    let idle: HashSet<_> = idle.iter().map(|one| (&one.namespace, &one.id)).collect();
    for usage in &mut usages {
        usage.idle =
            usage.container.as_ref().is_some_and(|one| idle.contains(&(&one.namespace, &one.id)));
    }
    usages
}

/// What descends from an entry's process now.
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
        usage.command = inspector.command(key);
        Some((key, usage))
    })
}

/// The process of an entity id, whose digits after the boot's and the pid's are the start.
fn start_of(entity_id: &str, pid: i32) -> Option<ProcessKey> {
    let start_ticks = u64::from_str_radix(entity_id.get(16..)?, 16).ok()?;
    Some(ProcessKey { pid, start_ticks })
}

fn usage(entry: &Entry) -> Option<api::Usage> {
    let process = &entry.process;
    let mut usage = usage_of(process.key())?;
    usage.id = entry.id;
    usage.entity_id = process.entity_id();
    usage.name = entry.name.clone().unwrap_or_default();
    usage.command = process.command();
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

/// An answer, if it fits into a message of ttrpc: a larger one would cost the connection.
fn fitting<T: protobuf::Message>(answer: T) -> ttrpc::Result<T> {
    if size(&answer) <= ANSWER_MAX {
        return Ok(answer);
    }
    let message = format!("too many processes or ports for an answer of {ANSWER_MAX} bytes");
    Err(ttrpc::Error::RpcStatus(ttrpc::get_status(Code::RESOURCE_EXHAUSTED, message)))
}

/// What reads `/proc`, off the thread that answers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> ttrpc::Result<T> {
    spawn_blocking(work).await.map_err(|error| {
        ttrpc::Error::RpcStatus(ttrpc::get_status(
            Code::INTERNAL,
            format!("the work failed: {error}"),
        ))
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn status(refusal: Refusal) -> ttrpc::Error {
    let code = match refusal.kind() {
        Kind::NotFound => Code::NOT_FOUND,
        Kind::Usage => Code::INVALID_ARGUMENT,
        Kind::Exists => Code::ALREADY_EXISTS,
        Kind::State => Code::FAILED_PRECONDITION,
        Kind::Denied => Code::PERMISSION_DENIED,
        Kind::Room => Code::RESOURCE_EXHAUSTED,
        Kind::Later => Code::UNAVAILABLE,
    };
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, chain(&refusal)))
}
