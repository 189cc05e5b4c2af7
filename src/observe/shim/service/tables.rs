//! The method tables of the Observer service.
//!
//! The generated handlers work on messages. Those of Processes, Ports and Subscribe are replaced by
//! handlers that write their responses as bytes.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    protobuf::Message,
    ttrpc::{
        self,
        r#async::{MethodHandler, StreamHandler, StreamInner, TtrpcContext},
        proto::{Code, ResponseInit as _},
    },
};

use super::{Answer, Service, status, stream};
use crate::api::observer;

/// Provides the service to the handlers: the service itself, or a stand-in that may not have one
/// yet.
pub(in crate::observe) trait ServiceProvider:
    observer::Observer + Send + Sync + 'static
{
    /// The service.
    ///
    /// # Errors
    ///
    /// The status to answer with while there is no service.
    fn service(&self) -> Answer<&Service>;
}

impl ServiceProvider for Service {
    fn service(&self) -> Answer<&Service> {
        Ok(self)
    }
}

/// The method tables to register with a server.
pub(in crate::observe) fn tables(
    provider: &Arc<impl ServiceProvider>,
) -> HashMap<String, ttrpc::r#async::Service> {
    let mut tables = observer::create_observer(provider.clone());
    for table in tables.values_mut() {
        // Each insertion replaces the generated handler of the same name.
        table.methods.insert("Processes".to_owned(), Box::new(Processes(provider.clone())));
        table.methods.insert("Ports".to_owned(), Box::new(Ports(provider.clone())));
        table.streams.insert("Subscribe".to_owned(), Arc::new(Subscribe(provider.clone())));
    }
    tables
}

struct Processes<S>(Arc<S>);

#[async_trait]
impl<S: ServiceProvider> MethodHandler for Processes<S> {
    async fn handler(&self, _: TtrpcContext, request: ttrpc::Request) -> Answer<ttrpc::Response> {
        Ok(response(async { self.0.service()?.processes(&decoded(&request.payload)?).await }.await))
    }
}

struct Ports<S>(Arc<S>);

#[async_trait]
impl<S: ServiceProvider> MethodHandler for Ports<S> {
    async fn handler(&self, _: TtrpcContext, request: ttrpc::Request) -> Answer<ttrpc::Response> {
        Ok(response(async { self.0.service()?.ports(&decoded(&request.payload)?).await }.await))
    }
}

struct Subscribe<S>(Arc<S>);

#[async_trait]
impl<S: ServiceProvider> StreamHandler for Subscribe<S> {
    async fn handler(
        &self,
        _: TtrpcContext,
        mut stream: StreamInner,
    ) -> Answer<Option<ttrpc::Response>> {
        let request = stream.recv().await?;
        let ended = async { stream::events(self.0.service()?, decoded(&request)?, &stream).await };
        Ok(ended.await.err().map(|error| ttrpc::Response::init_status(error_status(error))))
    }
}

fn response(written: Answer<Vec<u8>>) -> ttrpc::Response {
    let mut response = ttrpc::Response::new();
    match written {
        Ok(payload) => response.set_payload(payload),
        Err(error) => response.set_status(error_status(error)),
    }
    response
}

fn decoded<M: Message>(bytes: &[u8]) -> Answer<M> {
    M::parse_from_bytes(bytes).map_err(|error| {
        status(Code::INVALID_ARGUMENT, format!("the request cannot be decoded: {error}"))
    })
}

/// The status that reports an error to the client.
fn error_status(error: ttrpc::Error) -> ttrpc::Status {
    match error {
        ttrpc::Error::RpcStatus(status) => status,
        other => ttrpc::get_status(Code::UNKNOWN, other.to_string()),
    }
}
