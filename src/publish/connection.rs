//! The connection to containerd's events service.

use std::{fs, time::Duration};

use containerd_shim_protos::{
    api::Empty,
    protobuf::MessageField,
    shim::{event::Envelope, events::ForwardRequest},
    shim_async::{Client, EventsClient},
    ttrpc::{self, proto::Code},
};

use crate::sys::nofile;

/// The longest time that containerd may take to acknowledge one event.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// Time limit of an attempt to connect to containerd, which runs on the same machine.
const CONNECT: Duration = Duration::from_secs(5);

/// The result of one attempt to forward an event.
pub(super) enum Forwarded {
    /// containerd has acknowledged the event.
    Acknowledged,
    /// containerd has refused the event and would refuse it again. Contains the message of its
    /// answer.
    Refused(String),
    /// No answer came. containerd may or may not have received the event.
    Unreachable,
}

/// A connection to the events service. It is opened when it is needed and dropped when it fails.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    client: Option<Events>,
}

struct Events(EventsClient);

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Events")
    }
}

impl Connection {
    pub(super) fn new(address: &str) -> Self {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        Self { address: format!("unix://{path}"), client: None }
    }

    /// Opens a new connection. Returns false if that fails.
    pub(super) async fn connect(&mut self) -> bool {
        // Exits are reported over this connection.
        let _reserve = nofile::reserve();
        let client = tokio::time::timeout(CONNECT, Client::connect(&self.address)).await;
        self.client =
            client.ok().and_then(Result::ok).map(|client| Events(EventsClient::new(client)));
        self.client.is_some()
    }

    /// How long containerd has served at its socket, which it creates when it starts. Zero if that
    /// cannot be found out.
    pub(super) fn served_for(&self) -> Duration {
        let path = self.address.trim_start_matches("unix://");
        let created = fs::metadata(path).and_then(|attributes| attributes.modified());
        created.ok().and_then(|created| created.elapsed().ok()).unwrap_or_default()
    }

    /// Forwards an event once, on the existing connection or on a new one.
    pub(super) async fn forward(&mut self, envelope: &Envelope) -> Forwarded {
        if self.client.is_none() && !self.connect().await {
            return Forwarded::Unreachable;
        }
        let Some(Events(client)) = &self.client else { return Forwarded::Unreachable };
        let request =
            ForwardRequest { envelope: MessageField::some(envelope.clone()), ..Default::default() };
        let context = ttrpc::context::with_duration(ACKNOWLEDGE);
        let forwarded = forwarded(client.forward(context, &request).await);
        // A connection on which no answer arrived may be broken, so the next attempt opens a new
        // one.
        if matches!(forwarded, Forwarded::Unreachable) {
            self.client = None;
        }
        forwarded
    }
}

fn forwarded(answer: ttrpc::Result<Empty>) -> Forwarded {
    match answer {
        Ok(_) => Forwarded::Acknowledged,
        Err(ttrpc::Error::RpcStatus(status)) => match status.code() {
            Code::INVALID_ARGUMENT | Code::UNIMPLEMENTED | Code::OUT_OF_RANGE => {
                Forwarded::Refused(status.message)
            }
            // containerd is starting or stopping, or the code is unknown: the event is retried.
            _ => Forwarded::Unreachable,
        },
        Err(_) => Forwarded::Unreachable,
    }
}
