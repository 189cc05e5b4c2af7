//! containerd's event service for shims: acknowledges all events and reads none.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    protobuf::well_known_types::empty::Empty,
    shim::events::ForwardRequest,
    shim_async::{Events, create_events},
    ttrpc::{
        self,
        asynchronous::{Server, TtrpcContext},
    },
};

use crate::{Result, connections};

struct Acknowledge;

#[async_trait]
impl Events for Acknowledge {
    async fn forward(&self, _: &TtrpcContext, _: ForwardRequest) -> ttrpc::Result<Empty> {
        Ok(Empty::default())
    }
}

/// Serves while the returned server exists.
pub(crate) fn serve(socket: &Path) -> Result<Server> {
    let address = format!("unix://{}", socket.display());
    connections::wait(async move {
        let mut server =
            Server::new().bind(&address)?.register_service(create_events(Arc::new(Acknowledge)));
        server.start().await?;
        Ok(server)
    })
}
