//! One shim's Observer service.

use std::time::Duration;

use containerd_shim_protos::protobuf::Message as _;
use tokio::time::{error::Elapsed, timeout};
use ttrpc::{r#async::ClientStreamReceiver, context};

use super::batch::Batches;
use crate::{
    api::{
        CapabilitiesRequest, CapabilitiesResponse, ExitBatch, ExitsRequest, PortsRequest,
        PortsResponse, ProcessesRequest, ProcessesResponse, StatusRequest, StatusResponse,
        SubscribeRequest, observer::ObserverClient,
    },
    registration::Registration,
};

/// How long a shim may take to answer: it answers from memory, in a millisecond.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection to a shim.
#[derive(Clone)]
pub struct Shim {
    /// Whose.
    pub registration: Registration,
    client: ObserverClient,
    /// The connection, for what is not decoded at once.
    connection: ttrpc::r#async::Client,
}

/// A shim did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShimError {
    /// Nobody serves at its address.
    #[error("failed to reach shim {id} at {address}")]
    Unreachable {
        /// The shim's id.
        id: String,
        /// Where it should serve.
        address: String,
        /// Why.
        #[source]
        source: ttrpc::Error,
    },
    /// It is there and does not answer.
    #[error("shim {id} did not answer within {} s", ANSWER.as_secs())]
    Silent {
        /// The shim's id.
        id: String,
    },
    /// It refused, or the connection broke.
    #[error("failed to ask shim {id}")]
    Failed {
        /// The shim's id.
        id: String,
        /// Why.
        #[source]
        source: ttrpc::Error,
    },
}

impl Shim {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ShimError::Unreachable`], or [`ShimError::Silent`].
    pub async fn connect(registration: Registration) -> Result<Self, ShimError> {
        let connecting = ttrpc::r#async::Client::connect(&registration.address);
        match timeout(ANSWER, connecting).await {
            Ok(Ok(connection)) => Ok(Self {
                client: ObserverClient::new(connection.clone()),
                connection,
                registration,
            }),
            Ok(Err(source)) => {
                let Registration { id, address, .. } = registration;
                Err(ShimError::Unreachable { id, address, source })
            }
            Err(_) => Err(ShimError::Silent { id: registration.id }),
        }
    }

    /// What it can observe.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn capabilities(&self) -> Result<CapabilitiesResponse, ShimError> {
        let request = CapabilitiesRequest::new();
        self.answer(timeout(ANSWER, self.client.capabilities(deadline(), &request)).await)
    }

    /// The processes that live, of one container or (empty) of all.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn processes(&self, container_id: &str) -> Result<ProcessesResponse, ShimError> {
        let request =
            ProcessesRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.answer(timeout(ANSWER, self.client.processes(deadline(), &request)).await)
    }

    /// The ports that are open, of one container or (empty) of all.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn ports(&self, container_id: &str) -> Result<PortsResponse, ShimError> {
        let request = PortsRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.answer(timeout(ANSWER, self.client.ports(deadline(), &request)).await)
    }

    /// What waits in the shim itself.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn status(&self) -> Result<StatusResponse, ShimError> {
        self.answer(timeout(ANSWER, self.client.status(deadline(), &StatusRequest::new())).await)
    }

    /// Every exit from now on, of one container or (empty) of all.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn exits(
        &self,
        container_id: &str,
    ) -> Result<ClientStreamReceiver<ExitBatch>, ShimError> {
        let request = ExitsRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.answer(timeout(ANSWER, self.client.exits(context::Context::default(), &request)).await)
    }

    /// Events, as `proto/lookout/v1/observer.proto` says.
    ///
    /// # Errors
    ///
    /// [`ShimError`].
    pub async fn subscribe(&self, request: &SubscribeRequest) -> Result<Batches, ShimError> {
        let subscribe = async {
            let payload = request
                .write_to_bytes()
                .map_err(|error| ttrpc::Error::Others(error.to_string()))?;
            let (service, method) = ("lookout.v1.Observer".to_owned(), "Subscribe".to_owned());
            let request = ttrpc::Request { service, method, payload, ..Default::default() };
            let stream = self.connection.new_stream(request, false, true).await?;
            Ok(Batches::new(stream, self.connection.clone()))
        };
        self.answer(timeout(ANSWER, subscribe).await)
    }

    fn answer<T>(&self, answer: Result<ttrpc::Result<T>, Elapsed>) -> Result<T, ShimError> {
        let id = || self.registration.id.clone();
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(ShimError::Failed { id: id(), source }),
            Err(_) => Err(ShimError::Silent { id: id() }),
        }
    }
}

impl ShimError {
    /// Whether the shim answered that it knows no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(ttrpc::Code::NOT_FOUND)
    }

    /// Whether the shim answered that what it was asked makes no sense: asking again gives the
    /// same.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.code() == Some(ttrpc::Code::INVALID_ARGUMENT)
    }

    /// Whether the shim is there and answered, if not with what it was asked for.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.code().is_some()
    }

    fn code(&self) -> Option<ttrpc::Code> {
        match self {
            Self::Failed { source: ttrpc::Error::RpcStatus(status), .. } => Some(status.code()),
            Self::Failed { .. } | Self::Unreachable { .. } | Self::Silent { .. } => None,
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

fn deadline() -> context::Context {
    context::with_duration(ANSWER)
}
