//! A client of one shim's Observer service.

use std::{io, mem, path::Path, time::Duration};

use containerd_shim_protos::protobuf::Message as _;
use tokio::time::{error::Elapsed, timeout};
use ttrpc::{
    r#async::{ClientStreamReceiver, transport::Socket},
    context,
};

use super::{AccessDenied, batch::BatchStream};
use crate::{
    api::{
        CapabilitiesRequest, CapabilitiesResponse, ExitBatch, ExitsRequest, Filter, Hello,
        PortsRequest, PortsResponse, ProcessesRequest, ProcessesResponse, StatusRequest,
        StatusResponse, SubscribeRequest, event::Body, observer::ObserverClient,
    },
    registration::Registration,
};

/// How long a shim may take to answer a request. A shim answers from memory, within a millisecond;
/// the limit finds a shim that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one shim's Observer service.
#[derive(Clone)]
pub struct Shim {
    /// The registration by which the shim was found.
    pub registration: Registration,
    client: ObserverClient,
    /// The connection of `client`, for [`subscribe`](Shim::subscribe), which makes its request
    /// without the generated client.
    connection: ttrpc::r#async::Client,
}

/// Why a request to a shim failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShimError {
    /// No process listens at the shim's address, or the connection was refused.
    #[error("failed to reach shim {id} at {address}")]
    Unreachable {
        /// The shim's id.
        id: String,
        /// The address from the shim's registration.
        address: String,
        /// The error of connect(2): `ECONNREFUSED` if the shim has ended.
        #[source]
        source: io::Error,
    },
    /// This user may not connect to the shim's socket.
    #[error("failed to reach shim {id}")]
    Denied {
        /// The shim's id.
        id: String,
        /// What denies the access.
        #[source]
        denied: AccessDenied,
    },
    /// The shim did not answer in time.
    #[error("shim {id} did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut {
        /// The shim's id.
        id: String,
    },
    /// The shim answered with an error, or the connection broke.
    #[error("request to shim {id} failed")]
    Failed {
        /// The shim's id.
        id: String,
        /// The status of the answer, or the error of the connection.
        #[source]
        source: ttrpc::Error,
    },
}

impl Shim {
    /// Connects to the shim at the address of its registration.
    ///
    /// # Errors
    ///
    /// [`ShimError::Unreachable`], [`ShimError::Denied`] or [`ShimError::TimedOut`].
    pub async fn connect(registration: Registration) -> Result<Self, ShimError> {
        // `Client::connect` would turn the error into text.
        match timeout(ANSWER_TIMEOUT, Socket::connect(&registration.address)).await {
            Ok(Ok(socket)) => {
                let connection = ttrpc::r#async::Client::new(socket);
                let client = ObserverClient::new(connection.clone());
                Ok(Self { client, connection, registration })
            }
            Ok(Err(source)) => {
                let Registration { id, address, .. } = registration;
                let path = Path::new(address.strip_prefix("unix://").unwrap_or(&address));
                match AccessDenied::from_error(path, &source) {
                    Some(denied) => Err(ShimError::Denied { id, denied }),
                    None => Err(ShimError::Unreachable { id, address, source }),
                }
            }
            Err(_) => Err(ShimError::TimedOut { id: registration.id }),
        }
    }

    /// Asks which categories of events the shim can observe.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn capabilities(&self) -> Result<CapabilitiesResponse, ShimError> {
        let request = CapabilitiesRequest::new();
        self.map_answer(
            timeout(ANSWER_TIMEOUT, self.client.capabilities(context_with_deadline(), &request))
                .await,
        )
    }

    /// Lists the live processes of one container, or of all containers if the id is empty, from all
    /// pages of the answer. The cursor is the one of the first page.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn processes(&self, container_id: &str) -> Result<ProcessesResponse, ShimError> {
        let mut all = self.processes_page(container_id, String::new()).await?;
        let mut next = mem::take(&mut all.next);
        while !next.is_empty() {
            let mut page = self.processes_page(container_id, next).await?;
            all.processes.append(&mut page.processes);
            next = page.next;
        }
        Ok(all)
    }

    async fn processes_page(
        &self,
        container_id: &str,
        page: String,
    ) -> Result<ProcessesResponse, ShimError> {
        let container_id = container_id.to_owned();
        let request = ProcessesRequest { container_id, page, ..Default::default() };
        self.map_answer(
            timeout(ANSWER_TIMEOUT, self.client.processes(context_with_deadline(), &request)).await,
        )
    }

    /// Lists the open ports of one container, or of all containers if the id is empty, from all
    /// pages of the answer. The cursor is the one of the first page.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn ports(&self, container_id: &str) -> Result<PortsResponse, ShimError> {
        let mut all = self.ports_page(container_id, String::new()).await?;
        let mut next = mem::take(&mut all.next);
        while !next.is_empty() {
            let mut page = self.ports_page(container_id, next).await?;
            all.ports.append(&mut page.ports);
            next = page.next;
        }
        Ok(all)
    }

    async fn ports_page(
        &self,
        container_id: &str,
        page: String,
    ) -> Result<PortsResponse, ShimError> {
        let container_id = container_id.to_owned();
        let request = PortsRequest { container_id, page, ..Default::default() };
        self.map_answer(
            timeout(ANSWER_TIMEOUT, self.client.ports(context_with_deadline(), &request)).await,
        )
    }

    /// Asks how many task events wait to be published to containerd.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn status(&self) -> Result<StatusResponse, ShimError> {
        self.map_answer(
            timeout(
                ANSWER_TIMEOUT,
                self.client.status(context_with_deadline(), &StatusRequest::new()),
            )
            .await,
        )
    }

    /// Streams every exit from now on, of one container, or of all containers if the id is empty.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn exits(
        &self,
        container_id: &str,
    ) -> Result<ClientStreamReceiver<ExitBatch>, ShimError> {
        let request = ExitsRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.map_answer(
            timeout(ANSWER_TIMEOUT, self.client.exits(context::Context::default(), &request)).await,
        )
    }

    /// Subscribes to events; `proto/lookout/v1/observer.proto` documents the request.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn subscribe(&self, request: &SubscribeRequest) -> Result<BatchStream, ShimError> {
        // The generated client would decode every event of every batch. This request is made
        // without that client, so that `BatchStream` receives the bytes.
        let subscribe = async {
            let payload = request
                .write_to_bytes()
                .map_err(|error| ttrpc::Error::Others(error.to_string()))?;
            let (service, method) = ("lookout.v1.Observer".to_owned(), "Subscribe".to_owned());
            let request = ttrpc::Request { service, method, payload, ..Default::default() };
            let stream = self.connection.new_stream(request, false, true).await?;
            Ok(BatchStream::new(stream, self.connection.clone()))
        };
        self.map_answer(timeout(ANSWER_TIMEOUT, subscribe).await)
    }

    /// The greeting of a stream of events: the shim's version, and what the configurations of its
    /// containers say about them.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn hello(&self) -> Result<Hello, ShimError> {
        // The descriptions of all containers that have events in the journal, and few events.
        let types = vec!["container.start".to_owned()];
        let filters = vec![Filter { types, limit: 1, ..Default::default() }];
        let request = SubscribeRequest { filters, backfill: true, ..Default::default() };
        let mut stream = self.subscribe(&request).await?;
        let batch = self.map_answer(timeout(ANSWER_TIMEOUT, stream.next()).await)?;
        let first = batch.as_ref().and_then(|batch| batch.iter().next()?.decode().ok());
        match first.and_then(|event| event.body) {
            Some(Body::Hello(hello)) => Ok(hello),
            _ => Err(ShimError::Failed {
                id: self.registration.id.clone(),
                source: ttrpc::Error::Others("the stream does not begin with hello".to_owned()),
            }),
        }
    }

    fn map_answer<T>(&self, answer: Result<ttrpc::Result<T>, Elapsed>) -> Result<T, ShimError> {
        let id = || self.registration.id.clone();
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(ShimError::Failed { id: id(), source }),
            Err(_) => Err(ShimError::TimedOut { id: id() }),
        }
    }
}

impl ShimError {
    /// Whether the shim answered that it has no such container.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status_code() == Some(ttrpc::Code::NOT_FOUND)
    }

    /// Whether the shim answered that the request is invalid. A retry would get the same answer.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.status_code() == Some(ttrpc::Code::INVALID_ARGUMENT)
    }

    /// Whether the error is an answer of the shim. `false` if the shim could not be reached or did
    /// not answer.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.status_code().is_some()
    }

    fn status_code(&self) -> Option<ttrpc::Code> {
        match self {
            Self::Failed { source: ttrpc::Error::RpcStatus(status), .. } => Some(status.code()),
            Self::Failed { .. }
            | Self::Unreachable { .. }
            | Self::Denied { .. }
            | Self::TimedOut { .. } => None,
        }
    }
}

impl std::fmt::Debug for Shim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shim")
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}

/// The context of a ttrpc request that must be answered within [`ANSWER_TIMEOUT`].
fn context_with_deadline() -> context::Context {
    context::with_duration(ANSWER_TIMEOUT)
}
