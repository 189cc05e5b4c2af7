//! The Observer service that is registered when the shim starts. It answers before the first
//! container is observed, and in a shim that never observes any.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::ttrpc::{
    self,
    r#async::{ServerStreamSender, TtrpcContext},
    proto::Code,
};

use super::{
    observer::Observer,
    service::{self, Service, ServiceProvider},
};
use crate::{
    api::{self, observer as wire},
    observe::encode,
    publish::{Publisher, Unpublished},
};

type Answer<T> = ttrpc::Result<T>;

/// Stands in for the Observer service, and forwards to it as soon as it exists.
struct LazyService {
    observer: Observer,
    publisher: Publisher,
}

/// The method tables of the Observer service, to register with the shim's server.
pub fn tables(
    observer: Observer,
    publisher: Publisher,
) -> HashMap<String, ttrpc::r#async::Service> {
    service::tables(&Arc::new(LazyService { observer, publisher }))
}

impl ServiceProvider for LazyService {
    fn service(&self) -> Answer<&Service> {
        self.observer.service().ok_or_else(|| {
            ttrpc::Error::RpcStatus(ttrpc::get_status(
                Code::FAILED_PRECONDITION,
                self.observer.unavailable_reason(),
            ))
        })
    }
}

#[async_trait]
impl wire::Observer for LazyService {
    async fn capabilities(
        &self,
        _: &TtrpcContext,
        _: api::CapabilitiesRequest,
    ) -> Answer<api::CapabilitiesResponse> {
        // This request is answered without a service, too: the reasons explain why nothing is
        // observed.
        let categories = self.observer.capabilities().iter().map(encode::capability).collect();
        Ok(api::CapabilitiesResponse { categories, ..Default::default() })
    }

    async fn status(&self, _: &TtrpcContext, _: api::StatusRequest) -> Answer<api::StatusResponse> {
        // Every shim sends task events, so the answer needs no observer.
        let Unpublished { events, bytes, oldest_ns } = self.publisher.unpublished();
        Ok(api::StatusResponse {
            unpublished_events: events,
            unpublished_bytes: bytes,
            oldest_unpublished_ns: oldest_ns,
            subscribers: u32::try_from(self.observer.subscribers()).unwrap_or(u32::MAX),
            ..Default::default()
        })
    }

    async fn exits(
        &self,
        context: &TtrpcContext,
        request: api::ExitsRequest,
        sender: ServerStreamSender<api::ExitBatch>,
    ) -> Answer<()> {
        self.service()?.exits(context, request, sender).await
    }
}
