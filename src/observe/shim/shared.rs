//! The state that the observer thread and the shim's async thread share.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU32};

use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::{
    message::{Message, Query},
    service::{LiveProcesses, OpenPorts, Queries, Unavailable},
};
use crate::{
    clock::{monotonic_ns, realtime_offset_ns},
    config::Settings,
    model::{Backend, Body, Capability, Event, Gap, Grade, Stage},
    observe::{
        capability::Capabilities,
        pipeline::Inbox,
        record::{PortPosition, Position},
        source::CallMarker,
        stream::EventLog,
    },
};

/// Runs the helpers of the node: processes that do for all shims what no shim should do itself,
/// such as loading the eBPF programs.
pub trait Helpers: Send + Sync + std::fmt::Debug {
    /// Runs this binary with `verb` and waits until it has reported success.
    ///
    /// # Errors
    ///
    /// The process could not be spawned, or it reported an error.
    fn run(&self, verb: &'static str) -> std::io::Result<()>;

    /// Starts this binary with `verb` and does not wait for it.
    ///
    /// # Errors
    ///
    /// The process could not be spawned.
    fn start(&self, verb: &'static str) -> std::io::Result<()>;
}

/// The state that the observer thread and the async thread of one shim share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) event_log: Arc<EventLog>,
    pub(super) inbox: Inbox<Message>,
    /// The settings of the first observed container, which hold for the whole shim.
    pub(super) settings: Arc<Settings>,
    pub(super) helpers: Arc<dyn Helpers>,
    pub(super) capabilities: Mutex<Vec<Capability>>,
    /// The marker for the processes of runtime calls.
    pub(super) call_marker: watch::Sender<Marking>,
    /// The number of the last runtime call.
    pub(super) calls: AtomicU32,
}

/// Whether the processes of runtime calls can be marked.
#[derive(Debug, Default)]
pub(super) enum Marking {
    /// Not known yet: the first source is being opened.
    #[default]
    Unknown,
    /// There is no source, or the source cannot mark processes.
    Impossible,
    By(Arc<dyn CallMarker>),
}

impl Shared {
    /// Sets what can be observed. Each category that changed is reported as an event, except when
    /// the first source is opened.
    pub(super) fn set_capabilities(&self, capabilities: Vec<Capability>) {
        // A poisoned lock stays in use: a panic of one thread must not reach the other.
        let before = std::mem::replace(
            &mut *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner),
            capabilities.clone(),
        );
        // Empty before the first source is open. That source sets the initial state.
        let changed = capabilities
            .into_iter()
            .filter(|capability| !before.is_empty() && !before.contains(capability));
        self.emit(changed.map(Body::Capability));
    }

    /// Sends a message to the observer thread. If the thread has failed, the inbox is closed and
    /// the message is dropped; the failure was reported already.
    pub(super) fn send(&self, message: impl Into<Message>) {
        drop(self.inbox.put(message.into()));
    }

    /// The marker for the processes of runtime calls, of the source that is in use.
    pub(super) fn call_marker(&self) -> Option<Arc<dyn CallMarker>> {
        match &*self.call_marker.borrow() {
            Marking::By(marker) => Some(marker.clone()),
            Marking::Unknown | Marking::Impossible => None,
        }
    }

    pub(super) fn set_call_marker(&self, marker: Option<Arc<dyn CallMarker>>) {
        self.call_marker.send_replace(marker.map_or(Marking::Impossible, Marking::By));
    }

    /// Waits until it is known whether the processes of runtime calls can be marked.
    pub(super) async fn marking_known(&self) {
        let mut marking = self.call_marker.subscribe();
        let is_known = |marking: &Marking| !matches!(marking, Marking::Unknown);
        // Fails only without a sender, and this is one.
        let _ = marking.wait_for(is_known).await;
    }

    pub(super) fn capabilities(&self) -> Vec<Capability> {
        self.capabilities.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reports that the observer thread has failed: nothing is observed from now on.
    pub(super) fn report_failure(&self, why: &str) {
        self.set_capabilities(Capabilities::unavailable(why).categories().to_vec());
        let now = monotonic_ns();
        self.emit([Body::Gap(Gap {
            lost: None,
            stage: Stage::Observer,
            from_ns: now,
            to_ns: now,
        })]);
    }

    /// Sends a query about a container to the observer thread and waits for the answer. An empty id
    /// means all containers.
    fn query<'a, T: Send + 'a>(
        &'a self,
        container: &'a str,
        query: impl FnOnce(String, oneshot::Sender<Option<T>>) -> Query + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Unavailable>> {
        Box::pin(async move {
            // The error if the inbox is closed, and if the thread ended with the query in its
            // inbox.
            let failed = || Unavailable::Observer { reason: "the observer has ended".into() };
            let (reply, answer) = oneshot::channel();
            self.inbox.put(query(container.to_owned(), reply).into()).map_err(|_| failed())?;
            let answer = answer.await.map_err(|_| failed())?;
            answer.ok_or_else(|| Unavailable::Container { id: container.to_owned() })
        })
    }

    /// Appends events of the shim itself, without a container, to the event log.
    fn emit(&self, bodies: impl IntoIterator<Item = Body>) {
        let monotonic_ns = monotonic_ns();
        let realtime_ns = monotonic_ns + realtime_offset_ns();
        let events = bodies.into_iter().map(|body| Event {
            monotonic_ns,
            realtime_ns,
            grade: Grade::Exact,
            source: Backend::Shim,
            container: None,
            body,
        });
        self.event_log.append(&mut events.collect());
    }
}

impl Queries for Shared {
    fn capabilities(&self) -> Vec<Capability> {
        Shared::capabilities(self)
    }

    fn processes<'a>(
        &'a self,
        container: &'a str,
        after: Position,
    ) -> BoxFuture<'a, Result<LiveProcesses, Unavailable>> {
        self.query(container, move |container_id, reply| Query::Processes {
            container_id,
            after,
            reply,
        })
    }

    fn ports<'a>(
        &'a self,
        container: &'a str,
        after: Option<PortPosition>,
    ) -> BoxFuture<'a, Result<OpenPorts, Unavailable>> {
        self.query(container, move |container_id, reply| Query::Ports {
            container_id,
            after,
            reply,
        })
    }
}
