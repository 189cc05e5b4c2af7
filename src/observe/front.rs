//! The Observer service as it stands from the shim's first moment: it answers before there is anything to
//! observe, and where nothing ever is.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::ttrpc::{
    self,
    r#async::{ServerStreamSender, TtrpcContext},
    proto::Code,
};

use super::{
    encode,
    observer::Observer,
    service::{self, Serves, Service},
};
use crate::api::{self, observer as wire};

type Answer<T> = ttrpc::Result<T>;

/// Asks the service, once there is one.
struct Front(Observer);

/// The method table to register.
pub(super) fn tables(observer: Observer) -> HashMap<String, ttrpc::r#async::Service> {
    service::tables(&Arc::new(Front(observer)))
}

impl Serves for Front {
    fn service(&self) -> Answer<&Service> {
        self.0
            .service()
            .ok_or_else(|| ttrpc::Error::RpcStatus(ttrpc::get_status(Code::FAILED_PRECONDITION, self.0.why_nothing())))
    }
}

#[async_trait]
impl wire::Observer for Front {
    async fn capabilities(&self, _: &TtrpcContext, _: api::CapabilitiesRequest) -> Answer<api::CapabilitiesResponse> {
        let categories = self.0.capabilities().iter().map(encode::capability).collect();
        Ok(api::CapabilitiesResponse { categories, ..Default::default() })
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
