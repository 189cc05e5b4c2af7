//! Which handler answers which method.
//!
//! The generated ones take and give messages; those of Processes, Ports and Subscribe write their
//! answers as bytes.

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

/// The service, or what stands before it while there is none.
pub(in crate::observe) trait Serves:
    observer::Observer + Send + Sync + 'static
{
    /// The service, or why there is none.
    fn service(&self) -> Answer<&Service>;
}

impl Serves for Service {
    fn service(&self) -> Answer<&Service> {
        Ok(self)
    }
}

/// The method table to register with a server.
pub(in crate::observe) fn tables(
    of: &Arc<impl Serves>,
) -> HashMap<String, ttrpc::r#async::Service> {
    let mut tables = observer::create_observer(of.clone());
    for table in tables.values_mut() {
        table.methods.insert("Processes".to_owned(), Box::new(Processes(of.clone())));
        table.methods.insert("Ports".to_owned(), Box::new(Ports(of.clone())));
        table.streams.insert("Subscribe".to_owned(), Arc::new(Subscribe(of.clone())));
    }
    tables
}

struct Processes<S>(Arc<S>);

#[async_trait]
impl<S: Serves> MethodHandler for Processes<S> {
    async fn handler(&self, _: TtrpcContext, request: ttrpc::Request) -> Answer<ttrpc::Response> {
        Ok(answer(async { self.0.service()?.processes(&decoded(&request.payload)?).await }.await))
    }
}

struct Ports<S>(Arc<S>);

#[async_trait]
impl<S: Serves> MethodHandler for Ports<S> {
    async fn handler(&self, _: TtrpcContext, request: ttrpc::Request) -> Answer<ttrpc::Response> {
        Ok(answer(async { self.0.service()?.ports(&decoded(&request.payload)?).await }.await))
    }
}

struct Subscribe<S>(Arc<S>);

#[async_trait]
impl<S: Serves> StreamHandler for Subscribe<S> {
    async fn handler(
        &self,
        _: TtrpcContext,
        mut stream: StreamInner,
    ) -> Answer<Option<ttrpc::Response>> {
        let request = stream.recv().await?;
        let ended = async { stream::events(self.0.service()?, decoded(&request)?, &stream).await };
        Ok(ended.await.err().map(|error| ttrpc::Response::init_status(told(error))))
    }
}

fn answer(written: Answer<Vec<u8>>) -> ttrpc::Response {
    let mut response = ttrpc::Response::new();
    match written {
        Ok(payload) => response.set_payload(payload),
        Err(error) => response.set_status(told(error)),
    }
    response
}

fn decoded<M: Message>(bytes: &[u8]) -> Answer<M> {
    M::parse_from_bytes(bytes).map_err(|error| {
        status(Code::INVALID_ARGUMENT, format!("the request cannot be decoded: {error}"))
    })
}

/// What a client is told of an error.
fn told(error: ttrpc::Error) -> ttrpc::Status {
    match error {
        ttrpc::Error::RpcStatus(status) => status,
        other => ttrpc::get_status(Code::UNKNOWN, other.to_string()),
    }
}
