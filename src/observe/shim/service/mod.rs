//! The Observer service of `proto/lookout/v1/observer.proto`: serves the event log and queries.
//!
//! Served beside containerd's Task service, on the same socket. A stream's handler notices that its
//! client has disconnected only when it next sends, so heartbeats also bound the life of the
//! handler. Without subscribers nothing here has a timer, an async task or memory.

mod answers;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod request;
mod stream;
mod tables;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::ttrpc::{
    self,
    r#async::{ServerStreamSender, TtrpcContext},
    proto::Code,
};
use futures::future::BoxFuture;

pub(super) use tables::{ServiceProvider, tables};

use crate::{
    api::{self, observer},
    model::{Capability, Container, Port, Process},
    observe::{
        encode,
        record::{PortPosition, Position},
        stream::EventLog,
    },
};

/// The version of the message schema, sent in each `hello`.
pub const SCHEMA_VERSION: u32 = 2;

/// A page of a list ends with the first entry that makes it larger than this, in bytes. The shim
/// has one page at a time in memory.
const PAGE_MIN: usize = 256 << 10;

/// The Observer service of one shim.
#[derive(Clone)]
pub struct Service {
    event_log: Arc<EventLog>,
    queries: Arc<dyn Queries>,
}

/// The queries that the service cannot answer from the event log. They run on the async thread, so
/// an implementation must not block.
pub trait Queries: Send + Sync {
    /// What can be observed, in the order of [`Category::ALL`](crate::model::Category::ALL).
    fn capabilities(&self) -> Vec<Capability>;

    /// The processes after a position that are alive in `container`, or in all containers if it is
    /// empty.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: no such container is observed, or the observer has ended.
    fn processes<'a>(
        &'a self,
        container: &'a str,
        after: Position,
    ) -> BoxFuture<'a, Result<LiveProcesses, Unavailable>>;

    /// The ports after a position that are open in `container`, or in all containers if it is
    /// empty.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: no such container is observed, or the observer has ended.
    fn ports<'a>(
        &'a self,
        container: &'a str,
        after: Option<PortPosition>,
    ) -> BoxFuture<'a, Result<OpenPorts, Unavailable>>;
}

/// Open ports of one or all containers, in the order of their positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPorts {
    /// The ports.
    pub ports: Vec<OpenPort>,
    /// Whether no port follows these.
    pub is_last: bool,
    /// The sequence number of the last event that this answer includes.
    pub seq: u64,
}

/// An open port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPort {
    /// Its place in the list.
    pub position: PortPosition,
    /// The container that the port belongs to.
    pub container: Arc<Container>,
    /// The port, with the processes that hold one of its sockets.
    pub port: Port,
}

/// The living processes of one or all containers.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveProcesses {
    /// The processes with their positions and containers, parents before children.
    pub processes: Vec<(Position, Arc<Container>, Arc<Process>)>,
    /// The containers that are idle now; empty unless the list begins with the first process.
    pub idle: Vec<Arc<Container>>,
    /// The sequence number of the last event that this answer includes.
    pub seq: u64,
}

/// Why a query cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// This shim has no such container, or does not observe it.
    #[error("container {id:?} is not observed by this shim")]
    Container {
        /// The id from the request.
        id: String,
    },
    /// The observer thread has ended.
    #[error("processes are not observed: {reason}")]
    Observer {
        /// Why the observer has ended, in one line.
        reason: String,
    },
}

type Answer<T> = ttrpc::Result<T>;

impl Service {
    /// A service over a shim's event log and its queries.
    #[must_use]
    pub fn new(event_log: Arc<EventLog>, queries: Arc<dyn Queries>) -> Self {
        Self { event_log, queries }
    }

    /// Answers Processes with an encoded response.
    async fn processes(&self, request: &api::ProcessesRequest) -> Answer<Vec<u8>> {
        let after = Position::parse(&request.page).ok_or_else(|| no_such_page(&request.page))?;
        let living = self.queries.processes(&request.container_id, after).await;
        let living = living.map_err(|why| unavailable(&why))?;
        Ok(answers::processes(self.event_log.encoder(), &living, PAGE_MIN))
    }

    /// Answers Ports with an encoded response.
    async fn ports(&self, request: &api::PortsRequest) -> Answer<Vec<u8>> {
        let page = Some(&request.page).filter(|page| !page.is_empty());
        let after = page.map(|page| serde_json::from_str(page).map_err(|_| no_such_page(page)));
        let open = self.queries.ports(&request.container_id, after.transpose()?).await;
        let open = open.map_err(|why| unavailable(&why))?;
        Ok(answers::ports(self.event_log.encoder(), &open, PAGE_MIN))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Service")
            .field("identity", self.event_log.identity())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl observer::Observer for Service {
    async fn capabilities(
        &self,
        _: &TtrpcContext,
        _: api::CapabilitiesRequest,
    ) -> Answer<api::CapabilitiesResponse> {
        // Also answered when the observer thread has ended: the answer shows why.
        let categories = self.queries.capabilities().iter().map(encode::capability).collect();
        Ok(api::CapabilitiesResponse { categories, ..Default::default() })
    }

    async fn exits(
        &self,
        _: &TtrpcContext,
        request: api::ExitsRequest,
        sender: ServerStreamSender<api::ExitBatch>,
    ) -> Answer<()> {
        stream::exits(&self.event_log, request, &sender).await
    }
}

fn no_such_page(page: &str) -> ttrpc::Error {
    status(Code::INVALID_ARGUMENT, format!("page {page:?} was never in a response"))
}

fn unavailable(why: &Unavailable) -> ttrpc::Error {
    let code = match why {
        Unavailable::Container { .. } => Code::NOT_FOUND,
        Unavailable::Observer { .. } => Code::UNAVAILABLE,
    };
    status(code, why.to_string())
}

fn status(code: Code, message: String) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message))
}

#[cfg(test)]
mod tests;
