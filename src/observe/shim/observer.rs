//! The shim's observer: what the task side tells it, and what its clients ask.
//!
//! Nothing is made before the first container that is to be observed: no thread, no kernel object,
//! no journal. With `observe = off` nothing ever is.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    actor,
    bus::{self, Bus, Carries, Rate},
    message::{Message, Serial},
    service::Service,
    shared::{Helpers, Shared},
};
use crate::{
    clock::monotonic_ns,
    config::{self, Config, Settings},
    linux::{boot_id, process},
    model::{
        Capability, Container, ContainerObserver, Exit, Kubernetes, NewContainer,
        ObservedContainer, ProcessId, ProcessKey,
    },
    observe::{
        capability::Capabilities,
        encode::{Clock, Identity},
        pipeline::Inbox,
        stream::{EventLog, Limits},
        track::idle::Input,
    },
    publish::Publisher,
    registration::{self, Registration},
};

/// How long a container's start may wait for its observer; a fresh node loads the programs
/// meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// Attribution shim it is, and where it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimIdentity {
    /// containerd's namespace.
    pub namespace: String,
    /// The id of the container, or of the pod, that the shim was started for.
    pub shim_id: String,
    /// Its socket, `unix:///…`.
    pub address: String,
}

/// Watches the containers of one shim. Clones share it.
#[derive(Debug, Clone)]
pub struct Observer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Or why there is none.
    config: Result<Config, String>,
    seat: ShimIdentity,
    helpers: Arc<dyn Helpers>,
    serials: AtomicU64,
    running: OnceLock<Option<Running>>,
    /// Emission when there is something running.
    started: Notify,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    service: Service,
}

impl Observer {
    /// An observer that has made nothing yet. Without a configuration it never observes: what an
    /// operator wanted redacted, or not observed at all, is not known then.
    #[must_use]
    pub fn new(
        config: Result<Config, String>,
        seat: ShimIdentity,
        helpers: Arc<dyn Helpers>,
    ) -> Self {
        let (serials, running, started) = (AtomicU64::new(1), OnceLock::new(), Notify::new());
        Self { inner: Arc::new(Inner { config, seat, helpers, serials, running, started }) }
    }

    /// The service, once there is something to serve.
    pub(super) fn service(&self) -> Option<&Service> {
        self.running().map(|running| &running.service)
    }

    /// How many follow the events, the shim itself included.
    pub(super) fn subscribers(&self) -> usize {
        self.running().map_or(0, |running| running.shared.event_log.subscribers())
    }

    /// Carries to containerd's bus what the settings say, for as long as the shim lives.
    pub async fn carry(&self, publisher: &Publisher) {
        let shared = loop {
            let started = self.inner.started.notified();
            if let Some(running) = self.running() {
                break &running.shared;
            }
            started.await;
        };
        let carries = match shared.settings.bus {
            config::Bus::Processes => Carries::Processes,
            config::Bus::None => Carries::None,
            _ => Carries::Ports,
        };
        let bus = Bus::new(carries, Rate::default());
        bus::run(&shared.event_log, publisher, bus, monotonic_ns).await;
        // Nothing more comes; the shim lives on.
        std::future::pending().await
    }

    /// What is observed, by what, and why not more.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        match self.running() {
            Some(running) => running.shared.capabilities(),
            None => Capabilities::unavailable(&self.why_nothing()).categories().to_vec(),
        }
    }

    /// The shim leaves: what the containers still had to tell is told, within that time.
    pub async fn stop(&self, within: Duration) {
        let Some(Running { shared, .. }) = self.running() else { return };
        let (stopped, is_stopped) = oneshot::channel();
        if shared.inbox.put(Message::Stop { stopped }).is_ok() {
            let _ = timeout(within, is_stopped).await;
        }
        shared.event_log.close();
        shared.event_log.drained(within).await;
        let ShimIdentity { namespace, shim_id, .. } = &self.inner.seat;
        if let Err(error) = registration::remove(&registration::runtime_dir(), namespace, shim_id) {
            tracing::warn!(%error, "the registration stays");
        }
    }

    /// Why there is nothing to serve.
    pub(super) fn why_nothing(&self) -> String {
        match &self.inner.config {
            Ok(_) => "no container of this shim is observed".to_owned(),
            Err(why) => format!("the configuration is not taken: {why}"),
        }
    }

    fn running(&self) -> Option<&Running> {
        self.inner.running.get()?.as_ref()
    }

    /// Makes all there is to make, once.
    fn start(&self, settings: &Arc<Settings>) -> Option<Arc<Shared>> {
        let start = || {
            let (me, identity) = identity(&self.inner.seat.shim_id)?;
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
            });
            actor::start(shared.clone())?;
            let service = Service::new(shared.event_log.clone(), shared.clone());
            if let Err(error) = self.register(me, shared.event_log.identity()) {
                tracing::warn!(%error, "nobody will find this shim's events");
            }
            Ok::<_, std::io::Error>(Running { shared, service })
        };
        let running = self.inner.running.get_or_init(|| {
            start().inspect_err(|error| tracing::error!(%error, "containers are not observed")).ok()
        });
        self.inner.started.notify_one();
        running.as_ref().map(|running| running.shared.clone())
    }

    fn register(&self, me: ProcessKey, identity: &Identity) -> std::io::Result<()> {
        let ShimIdentity { namespace, shim_id, address } = self.inner.seat.clone();
        let registration = Registration {
            namespace,
            id: shim_id,
            pid: me.pid,
            start: me.start_ticks,
            address,
            epoch: identity.epoch.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        registration.write(&registration::runtime_dir())
    }
}

/// This process, and what its records are known by: its epoch is its own name among all processes.
fn identity(shim_id: &str) -> std::io::Result<(ProcessKey, Identity)> {
    let boot = boot_id()?;
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let me = process::identify(pid).ok_or(std::io::ErrorKind::NotFound)?;
    Ok((me, Identity { shim_id: shim_id.to_owned(), epoch: me.entity_id(boot).to_string(), boot }))
}

impl ContainerObserver for Observer {
    fn begin(&self, beginning: NewContainer) -> Option<Arc<dyn ObservedContainer>> {
        let config = self.inner.config.as_ref().ok()?;
        let (settings, warnings) = config.for_container(&beginning.options, &beginning.annotations);
        for config::Warning { key, reason } in warnings {
            tracing::warn!(id = beginning.id, key, %reason, "a setting is not taken");
        }
        if !settings.observe {
            return None;
        }
        let settings = Arc::new(settings);
        let shared = self.start(&settings)?;
        let container = Container {
            namespace: beginning.namespace,
            id: beginning.id,
            cgroup: String::new(),
            kubernetes: Kubernetes::from_annotations(&beginning.annotations),
        };
        let serial = Serial(self.inner.serials.fetch_add(1, Ordering::Relaxed));
        let NewContainer { owns_pid_namespace, runtime, .. } = beginning;
        let input = Arc::default();
        Some(Arc::new(Handle {
            shared,
            serial,
            container,
            settings,
            owns_pid_namespace,
            runtime,
            input,
        }))
    }
}

/// One container, as the task side holds it.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    serial: Serial,
    container: Container,
    settings: Arc<Settings>,
    owns_pid_namespace: bool,
    runtime: PathBuf,
    input: Arc<Input>,
}

impl Handle {
    fn put(&self, message: Message) {
        // An observer that has failed has said so.
        drop(self.shared.inbox.put(message));
    }
}

impl ObservedContainer for Handle {
    fn created(&self, init: i32, restored: bool) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let (watched, is_watched) = oneshot::channel();
        self.put(Message::Created {
            serial: self.serial,
            container: self.container.clone(),
            settings: self.settings.clone(),
            init,
            restored,
            owns_pid_namespace: self.owns_pid_namespace,
            runtime: self.runtime.clone(),
            input: self.input.clone(),
            watched,
        });
        Box::pin(async move {
            if timeout(PATIENCE, is_watched).await.is_err() {
                tracing::warn!(id = self.container.id, "started before it is observed");
            }
        })
    }

    fn runtime_exec(&self, exec_id: &str, pid: i32) {
        self.put(Message::RuntimeExec { serial: self.serial, exec_id: exec_id.to_owned(), pid });
    }

    fn exec_started(&self, exec_id: &str, pid: i32) {
        self.put(Message::ExecStarted { serial: self.serial, exec_id: exec_id.to_owned(), pid });
    }

    fn exited(&self, process: &ProcessId, exit: Exit) {
        let exec_id = process.exec_id().unwrap_or_default();
        self.put(Message::Exited { serial: self.serial, exec_id: exec_id.to_owned(), exit });
    }

    fn input(&self) {
        if self.input.came(monotonic_ns()) {
            self.put(Message::Input { serial: self.serial });
        }
    }

    fn output_ended(&self, process: &ProcessId) {
        let exec_id = process.exec_id().unwrap_or_default();
        self.put(Message::OutputEnded { serial: self.serial, exec_id: exec_id.to_owned() });
    }

    fn deleted(&self) {
        self.put(Message::Deleted { serial: self.serial });
    }
}
