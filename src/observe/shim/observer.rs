//! The shim's observer, as the Task service sees it: receives the facts about containers and passes
//! them to the observer thread.
//!
//! Runs on the shim's async thread and never blocks it. It makes no thread, kernel object or
//! journal before the first container that is to be observed, so with `observe = off` it never
//! makes one.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};

use super::{
    actor,
    bus::{self, Bus, RateLimit},
    message::{Cause, Created, Outcome, Query, Serial},
    service::Service,
    shared::{Helpers, Shared},
};
use crate::{
    clock::monotonic_ns,
    config::{self, Config, Settings},
    linux::{boot_id, process},
    model::{
        Capability, Container, ContainerObserver, Description, Exit, IgnoredSetting, NewContainer,
        ObservedContainer, ProcessId, ProcessKey, RuntimeCall,
    },
    observe::{
        capability::Capabilities,
        encode::{Clock, Identity},
        pipeline::Inbox,
        record::{CallId, TargetId},
        source::CallMarker,
        stream::{EventLog, Limits},
        track::idle::LastInput,
    },
    publish::Publisher,
    registration::{self, Registration},
};

/// How long a container's create waits until the container is observed. The first shim of a node
/// has the eBPF programs loaded in that time.
const WATCH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a container's create waits at most until the processes of the runtime can be marked.
/// That takes some milliseconds for the first container of a shim, and longer for the first shim of
/// a node.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// The identity of a shim and the address at which it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimIdentity {
    /// The namespace in containerd.
    pub namespace: String,
    /// The id of the container, or of the pod, that the shim was started for.
    pub shim_id: String,
    /// The address of the shim's socket, `unix:///…`.
    pub address: String,
}

/// The observer of one shim's containers. Clones share its state.
#[derive(Debug, Clone)]
pub struct Observer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The host's configuration, or why it is invalid.
    config: Result<Config, String>,
    shim: ShimIdentity,
    helpers: Arc<dyn Helpers>,
    serials: AtomicU64,
    /// Set by the first observed container. The inner `None` means that the observer could not be
    /// started.
    running: OnceLock<Option<RunningObserver>>,
    /// Notified when `running` is set.
    started: Notify,
}

/// The parts of an observer that has been started.
#[derive(Debug)]
struct RunningObserver {
    shared: Arc<Shared>,
    service: Service,
}

impl Observer {
    /// An observer that has made no thread, kernel object or journal yet.
    ///
    /// With an invalid configuration it never observes, because it is unknown then what the
    /// operator had redacted or excluded.
    #[must_use]
    pub fn new(
        config: Result<Config, String>,
        shim: ShimIdentity,
        helpers: Arc<dyn Helpers>,
    ) -> Self {
        let (serials, running, started) = (AtomicU64::new(1), OnceLock::new(), Notify::new());
        Self { inner: Arc::new(Inner { config, shim, helpers, serials, running, started }) }
    }

    /// The Observer service; `None` while no container has been observed.
    pub(super) fn service(&self) -> Option<&Service> {
        self.running().map(|running| &running.service)
    }

    /// The number of subscribers to the events, including the shim's own for containerd's bus.
    pub(super) fn subscribers(&self) -> usize {
        self.running().map_or(0, |running| running.shared.event_log.subscribers())
    }

    /// Sends the events that the settings select to containerd's bus. Never returns.
    pub async fn send_to_bus(&self, publisher: &Publisher) {
        let shared = loop {
            // Made before the check, so that a start between the two is not missed.
            let started = self.inner.started.notified();
            if let Some(running) = self.running() {
                break &running.shared;
            }
            started.await;
        };
        let bus = Bus::new(shared.settings.bus, RateLimit::default());
        bus::run(&shared.event_log, publisher, bus, monotonic_ns).await;
        // The event log is closed. The caller selects over this future, so it must not end.
        std::future::pending().await
    }

    /// What can be observed, by which source, and why not more: one entry for each category.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        match self.running() {
            Some(running) => running.shared.capabilities(),
            None => Capabilities::unavailable(&self.unavailable_reason()).categories().to_vec(),
        }
    }

    /// Ends the observer before the shim exits. All events are appended to the event log, and
    /// subscribers have time to read them; each of these two steps takes `within` at most.
    pub async fn stop(&self, within: Duration) {
        let Some(RunningObserver { shared, .. }) = self.running() else { return };
        let (stopped, is_stopped) = oneshot::channel();
        // A refused message means that the observer thread has failed and has no events left.
        if shared.inbox.put(Query::Stop { stopped }.into()).is_ok() {
            let _ = timeout(within, is_stopped).await;
        }
        // Streams end only after the log is closed, so the log is closed before the wait for them.
        shared.event_log.close();
        shared.event_log.drained(within).await;
        let ShimIdentity { namespace, shim_id, .. } = &self.inner.shim;
        if let Err(error) = registration::remove(&registration::runtime_dir(), namespace, shim_id) {
            tracing::warn!(%error, "failed to remove the shim's registration");
        }
    }

    /// Why there is no Observer service, for the answer to a client.
    pub(super) fn unavailable_reason(&self) -> String {
        match &self.inner.config {
            Ok(_) => "no container of this shim is observed".to_owned(),
            Err(why) => format!("the configuration is invalid: {why}"),
        }
    }

    fn running(&self) -> Option<&RunningObserver> {
        self.inner.running.get()?.as_ref()
    }

    /// Starts the observer thread and makes all that it needs, once. Returns `None` if that failed,
    /// and also in all later calls.
    fn start(&self, settings: &Arc<Settings>) -> Option<Arc<Shared>> {
        let start = || {
            let (me, identity) = identity(&self.inner.shim.shim_id)?;
            let journal_bytes = usize::try_from(settings.journal_max).unwrap_or(usize::MAX);
            let shared = Arc::new(Shared {
                event_log: Arc::new(EventLog::new(
                    Limits { journal_bytes },
                    identity,
                    Clock::now(),
                )),
                inbox: Inbox::new()?,
                settings: settings.clone(),
                helpers: self.inner.helpers.clone(),
                capabilities: Mutex::default(),
                call_marker: watch::Sender::default(),
                calls: AtomicU32::new(0),
            });
            actor::start(shared.clone())?;
            let service = Service::new(shared.event_log.clone(), shared.clone());
            if let Err(error) = self.register(me, shared.event_log.identity()) {
                // Only clients that find the shim by its registration lose something.
                tracing::warn!(%error, "failed to register the shim; `lookout` will not find it");
            }
            Ok::<_, std::io::Error>(RunningObserver { shared, service })
        };
        // A failure is kept as well, so that it is logged once.
        let running = self.inner.running.get_or_init(|| {
            start()
                .inspect_err(|error| tracing::error!(%error, "failed to start the observer"))
                .ok()
        });
        // `send_to_bus` is the only waiter. If it does not wait yet, the notification is kept for
        // it.
        self.inner.started.notify_one();
        running.as_ref().map(|running| running.shared.clone())
    }

    fn register(&self, me: ProcessKey, identity: &Identity) -> std::io::Result<()> {
        let ShimIdentity { namespace, shim_id, address } = self.inner.shim.clone();
        let registration = Registration {
            namespace,
            id: shim_id,
            pid: me.pid,
            start: me.start_ticks(),
            address,
            epoch: identity.epoch.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        registration.write(&registration::runtime_dir())
    }
}

/// This process's key and the identity of its events. The epoch is the entity id of this process,
/// which no other run of a shim has.
fn identity(shim_id: &str) -> std::io::Result<(ProcessKey, Identity)> {
    let boot = boot_id()?;
    let pid = std::process::id().cast_signed();
    let me = process::identify(pid).ok_or(std::io::ErrorKind::NotFound)?;
    Ok((me, Identity { shim_id: shim_id.to_owned(), epoch: me.entity_id(boot).to_string(), boot }))
}

/// The first of the ignored settings, cut to a bounded length. The author of a pod decides how many
/// there are and how long they are.
fn first_ignored(warnings: &[config::Warning]) -> Arc<[IgnoredSetting]> {
    const COUNT_MAX: usize = 16;
    const BYTES_MAX: usize = 256;
    let cut = |text: String| text[..text.floor_char_boundary(BYTES_MAX)].to_owned();
    let first = warnings.iter().take(COUNT_MAX);
    first
        .map(|config::Warning { key, reason }| IgnoredSetting {
            key: cut(key.clone()),
            reason: cut(reason.to_string()),
        })
        .collect()
}

impl ContainerObserver for Observer {
    fn begin(&self, new: NewContainer) -> Option<Arc<dyn ObservedContainer>> {
        // The reason is in the capabilities and in the answers of the service.
        let config = self.inner.config.as_ref().ok()?;
        let (settings, warnings) =
            config.for_container(&new.namespace, &new.options, &new.annotations);
        let ignored_settings = first_ignored(&warnings);
        for IgnoredSetting { key, reason } in &*ignored_settings {
            tracing::warn!(id = new.id, key, reason, "a setting is ignored");
        }
        // Before `start`: nothing is made for a container that is not observed.
        if !settings.observe {
            return None;
        }
        let settings = Arc::new(settings);
        // The settings of the shim as a whole (source, bus, ring, journal) are those of the first
        // observed container.
        let shared = self.start(&settings)?;
        let container = Container {
            namespace: new.namespace,
            id: new.id,
            // The cgroup is not known before init exists; the observer thread fills it in.
            cgroup: String::new(),
            description: Description::from_annotations(&new.annotations),
            ignored_settings,
        };
        // Relaxed: the serials only have to differ.
        let serial = Serial(self.inner.serials.fetch_add(1, Ordering::Relaxed));
        let NewContainer { owns_pid_namespace, runtime, .. } = new;
        let input = Arc::default();
        Some(Arc::new(ContainerHandle {
            shared,
            serial,
            container,
            settings,
            owns_pid_namespace,
            target: Arc::default(),
            runtime,
            input,
        }))
    }
}

/// One observed container, for the Task service.
#[derive(Debug)]
struct ContainerHandle {
    shared: Arc<Shared>,
    serial: Serial,
    container: Container,
    settings: Arc<Settings>,
    owns_pid_namespace: bool,
    target: Arc<OnceLock<TargetId>>,
    runtime: PathBuf,
    input: Arc<LastInput>,
}

/// One call of the runtime for an observed container. Its drop is the end of the call.
#[derive(Debug)]
struct ObservedCall {
    shared: Arc<Shared>,
    serial: Serial,
    id: CallId,
    exec_id: Option<Arc<str>>,
    target: Option<TargetId>,
    /// `None` if the source cannot mark processes.
    marker: Option<Arc<dyn CallMarker>>,
}

impl RuntimeCall for ObservedCall {
    fn spawn_begins(&self) {
        if let Some(marker) = &self.marker
            && let Err(error) = marker.spawn_begins(self.id, self.target)
        {
            tracing::warn!(
                %error,
                "the processes of a runtime could not be marked; some may be reported as the \
                 container's"
            );
        }
    }

    fn spawn_ended(&self, pid: Option<i32>) {
        if let Some(marker) = &self.marker {
            marker.spawn_ended();
        }
        if let (Some(exec_id), Some(pid)) = (self.exec_id.clone(), pid) {
            self.shared.send(Cause::RuntimeExec { serial: self.serial, exec_id, pid });
        }
    }
}

impl Drop for ObservedCall {
    fn drop(&mut self) {
        if let Some(marker) = &self.marker {
            marker.ended(self.id);
        }
        self.shared.send(Outcome::CallEnded { serial: self.serial, call: self.id });
    }
}

impl ObservedContainer for ContainerHandle {
    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if timeout(READY_TIMEOUT, self.shared.marking_known()).await.is_err() {
                tracing::warn!(
                    id = self.container.id,
                    "the container is created before its processes can be marked; another \
                     container with a cgroup around it may report them"
                );
            }
        })
    }

    fn created(&self, init: i32, restored: bool) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let (watched, is_watched) = oneshot::channel();
        self.shared.send(Cause::Created(Box::new(Created {
            serial: self.serial,
            container: self.container.clone(),
            settings: self.settings.clone(),
            init,
            restored,
            owns_pid_namespace: self.owns_pid_namespace,
            target: self.target.clone(),
            runtime: self.runtime.clone(),
            input: self.input.clone(),
            watched,
        })));
        Box::pin(async move {
            // A dropped sender ends the wait, too: the container cannot be observed.
            if timeout(WATCH_TIMEOUT, is_watched).await.is_err() {
                tracing::warn!(
                    id = self.container.id,
                    "the container starts before it is observed"
                );
            }
        })
    }

    fn runtime_call(&self, exec_id: Option<&str>) -> Box<dyn RuntimeCall> {
        // Relaxed: the numbers only have to differ. 0 means that there is no call.
        let number = self.shared.calls.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (serial, id, exec_id) =
            (self.serial, CallId(number.max(1)), exec_id.map(<Arc<str>>::from));
        let (shared, marker) = (self.shared.clone(), self.shared.call_marker());
        // Put into the inbox before the spawn, so that it is processed before the records of the
        // call.
        self.shared.send(Cause::CallBegan { serial, call: id, exec_id: exec_id.clone() });
        let target = self.target.get().copied();
        Box::new(ObservedCall { shared, serial, id, exec_id, target, marker })
    }

    fn exec_started(&self, exec_id: &str, pid: i32) {
        self.shared.send(Cause::ExecStarted { serial: self.serial, exec_id: exec_id.into(), pid });
    }

    fn exited(&self, process: &ProcessId, exit: Exit) {
        self.shared.send(Outcome::Exited { serial: self.serial, process: process.clone(), exit });
    }

    fn input(&self) {
        // Called for each write. Only the first input of an idle container makes a message.
        if self.input.note(monotonic_ns()) {
            self.shared.send(Outcome::Input { serial: self.serial });
        }
    }

    fn output_ended(&self, process: &ProcessId) {
        self.shared.send(Outcome::OutputEnded { serial: self.serial, process: process.clone() });
    }

    fn deleted(&self) {
        self.shared.send(Outcome::Deleted { serial: self.serial });
    }
}
