//! The Observer service: what the event_log has, in the messages of `proto/lookout/v1/observer.proto`.
//!
//! Served beside containerd's Task service, on the same socket. A stream's handler outlives its
//! client until it next sends something, so heartbeats bound that too. While nobody follows,
//! nothing here has a timer, a task or memory.

mod answers;
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

pub(super) use tables::{Serves, tables};

use crate::{
    api::{self, observer},
    model::{Capability, Container, Port, Process},
    observe::{encode, stream::EventLog},
};

/// What the schema of the messages is called in a hello.
pub const SCHEMA_VERSION: u32 = 1;

/// What an answer may have; ttrpc refuses messages of more than 4 MiB.
const ANSWER_MAX: usize = 3 << 20;

/// To how many bytes each process's arguments are cut, one after the other, until the answer is
/// small enough.
const ARGS_MAX: [usize; 3] = [usize::MAX, 256, 32];

/// The service of one shim.
#[derive(Clone)]
pub struct Service {
    event_log: Arc<EventLog>,
    questions: Arc<dyn Questions>,
}

/// What the service cannot read off the event_log. Asked on the async thread, which must not wait.
pub trait Questions: Send + Sync {
    /// What can be observed, in the order of [`Category::ALL`](crate::model::Category::ALL).
    fn capabilities(&self) -> Vec<Capability>;

    /// The processes that are alive in `container`, or where that is empty in all, parents first;
    /// and the seq of the last event that they include.
    fn processes<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Living, Unavailable>>;

    /// The ports that are open in `container`, or where that is empty in all; and the seq of the
    /// last event that they include.
    fn ports<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<OpenPorts, Unavailable>>;
}

/// Ports, and the seq of the last event that they include.
pub type OpenPorts = (Vec<OpenPort>, u64);

/// A port that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPort {
    /// Attribution.
    pub container: Arc<Container>,
    /// Which, with all who hold it.
    pub port: Port,
    /// No event has told it.
    pub listed_only: bool,
}

/// What lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Living {
    /// Parents before children.
    pub processes: Vec<(Arc<Container>, Arc<Process>)>,
    /// The containers that are idle.
    pub idle: Vec<Arc<Container>>,
    /// The last event that this includes.
    pub seq: u64,
}

/// Why nobody can say what lives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// This shim has no such container, or does not watch it.
    #[error("container {id:?} is not watched here")]
    Container {
        /// Its id.
        id: String,
    },
    /// Nobody watches.
    #[error("processes are not observed: {reason}")]
    Observer {
        /// Why.
        reason: String,
    },
}

type Answer<T> = ttrpc::Result<T>;

impl Service {
    /// The service over a shim's events.
    #[must_use]
    pub fn new(event_log: Arc<EventLog>, questions: Arc<dyn Questions>) -> Self {
        Self { event_log, questions }
    }

    /// The answer to Processes, as bytes.
    async fn processes(&self, request: &api::ProcessesRequest) -> Answer<Vec<u8>> {
        let living = self
            .questions
            .processes(&request.container_id)
            .await
            .map_err(|why| unavailable(&why))?;
        let answers = ARGS_MAX
            .iter()
            .map(|args_max| answers::processes(self.event_log.encoder(), &living, *args_max));
        answers.into_iter().find(|answer| answer.len() <= ANSWER_MAX).ok_or_else(|| {
            let told = format!(
                "{} processes do not fit in an answer of {ANSWER_MAX} bytes",
                living.processes.len()
            );
            status(Code::RESOURCE_EXHAUSTED, told)
        })
    }

    /// The answer to Ports, as bytes.
    async fn ports(&self, request: &api::PortsRequest) -> Answer<Vec<u8>> {
        let (open, seq) =
            self.questions.ports(&request.container_id).await.map_err(|why| unavailable(&why))?;
        let answer = answers::ports(self.event_log.encoder(), &open, seq);
        if answer.len() <= ANSWER_MAX {
            return Ok(answer);
        }
        let told = format!("{} ports do not fit in an answer of {ANSWER_MAX} bytes", open.len());
        Err(status(Code::RESOURCE_EXHAUSTED, told))
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
        let categories = self.questions.capabilities().iter().map(encode::capability).collect();
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
