//! What the observer thread and the shim's async thread share.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::{
    message::Message,
    service::{Living, OpenPorts, Questions, Unavailable},
};
use crate::{
    clock::{monotonic_ns, realtime_offset_ns},
    config::Settings,
    model::{Backend, Body, Capability, Event, Gap, Grade, Stage},
    observe::{capability::Capabilities, pipeline::Inbox, stream::EventLog},
};

/// What the node's shims share, and only a short-lived process of its own may make.
pub trait Helpers: Send + Sync + std::fmt::Debug {
    /// Runs this binary's `verb` until it says that all is well.
    ///
    /// # Errors
    ///
    /// What spawning answered, or what the helper said.
    fn run(&self, verb: &'static str) -> std::io::Result<()>;

    /// Starts this binary's `verb`, which goes on by itself.
    ///
    /// # Errors
    ///
    /// What spawning answered.
    fn start(&self, verb: &'static str) -> std::io::Result<()>;
}

/// What the observer's thread and the shim's share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) event_log: Arc<EventLog>,
    pub(super) inbox: Inbox<Message>,
    pub(super) settings: Arc<Settings>,
    pub(super) helpers: Arc<dyn Helpers>,
    pub(super) capabilities: Mutex<Vec<Capability>>,
}

impl Shared {
    /// What can be observed is now this; a change is an event.
    pub(super) fn can(&self, capabilities: Vec<Capability>) {
        let before = std::mem::replace(
            &mut *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner),
            capabilities.clone(),
        );
        let changed = capabilities
            .into_iter()
            .filter(|capability| !before.is_empty() && !before.contains(capability));
        self.tell(changed.map(Body::Capability));
    }

    pub(super) fn capabilities(&self) -> Vec<Capability> {
        self.capabilities.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The observer's thread has ended before its time.
    pub(super) fn failed(&self, why: &str) {
        self.can(Capabilities::unavailable(why).categories().to_vec());
        let now = monotonic_ns();
        self.tell([Body::Gap(Gap {
            lost: None,
            stage: Stage::Observer,
            from_ns: now,
            to_ns: now,
        })]);
    }

    /// Asks the observer's thread about a container, or where that is empty about all.
    fn ask<'a, T: Send + 'a>(
        &'a self,
        container: &'a str,
        message: fn(String, oneshot::Sender<Option<T>>) -> Message,
    ) -> BoxFuture<'a, Result<T, Unavailable>> {
        Box::pin(async move {
            let failed = || Unavailable::Observer { reason: "the observer has ended".into() };
            let (reply, answer) = oneshot::channel();
            self.inbox.put(message(container.to_owned(), reply)).map_err(|_| failed())?;
            let answer = answer.await.map_err(|_| failed())?;
            answer.ok_or_else(|| Unavailable::Container { id: container.to_owned() })
        })
    }

    fn tell(&self, bodies: impl IntoIterator<Item = Body>) {
        let monotonic_ns = monotonic_ns();
        let realtime_ns = monotonic_ns + realtime_offset_ns();
        let told = bodies.into_iter().map(|body| Event {
            monotonic_ns,
            realtime_ns,
            grade: Grade::Exact,
            source: Backend::Shim,
            container: None,
            body,
        });
        self.event_log.publish(&mut told.collect());
    }
}

impl Questions for Shared {
    fn capabilities(&self) -> Vec<Capability> {
        Shared::capabilities(self)
    }

    fn processes<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Living, Unavailable>> {
        self.ask(container, |container_id, reply| Message::Processes { container_id, reply })
    }

    fn ports<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<OpenPorts, Unavailable>> {
        self.ask(container, |container_id, reply| Message::Ports { container_id, reply })
    }
}
