//! The part of containerd that shims send their events to: acknowledges all, looks at none.

use std::{path::Path, sync::Arc};

use containerd_shim_protos::{
    protobuf::well_known_types::empty::Empty,
    shim::events::ForwardRequest,
    shim_sync::{Events, create_events},
    ttrpc::{self, Server, TtrpcContext},
};

use crate::Result;

struct Acknowledge;

impl Events for Acknowledge {
    fn forward(&self, _: &TtrpcContext, _: ForwardRequest) -> ttrpc::Result<Empty> {
        Ok(Empty::default())
    }
}

/// Serves until the program ends; the server must be kept.
pub(crate) fn serve(socket: &Path) -> Result<Server> {
    let mut server = Server::new()
        .bind(&format!("unix://{}", socket.display()))?
        .register_service(create_events(Arc::new(Acknowledge)))
        // For each connection: forty shims may be connected.
        .set_thread_count_min(0)
        .set_thread_count_default(1)
        .set_thread_count_max(2);
    server.start()?;
    Ok(server)
}
