//! Runs the daemon: takes the instance lock, reads the registry, serves until SIGTERM.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::broadcast,
};
use ttrpc::r#async::{Server, transport::Listener};

use super::{
    RunOutcome,
    confine::confine,
    history::{History, HistoryThread, Limits},
    instance::{self, Claim, InstanceError, InstanceLock},
    label_usage::{LabelUsages, LabelledProcess, SAMPLED_MAX, UsageByLabel},
    metrics::{Metrics, ScrapeValues},
    node::{self, Node, NodeError},
    service::RegistryService,
    sockets::{self, BindError, BoundSockets},
    unpublished::UnpublishedEvents,
};
use crate::{
    accept, api, client,
    config::{Config, Settings},
    linux::process::{identify, usage},
    log,
    model::ProcessKey,
    observe::redact::{RedactError, Redactor},
    registration,
    registry::{
        Selector,
        inspector::Inspector,
        owner::{self, Intervals, RegistryHandle, RegistryThread},
        store::StoreError,
    },
};

/// How long the daemon waits after SIGTERM for the requests that are being answered, and then for
/// the registry's thread.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the daemon did not start, or stopped serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The instance lock could not be taken.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The registry's file could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A redaction pattern of the configuration is invalid.
    #[error("invalid `redact` pattern in the configuration")]
    Redact(#[from] RedactError),
    /// The ttrpc server could not be started.
    #[error("failed to start the ttrpc server")]
    Serve(#[from] ttrpc::Error),
    /// The file of the node's events could not be opened.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A socket that the configuration names could not be bound.
    #[error("failed to open the socket for the configuration key `{what}`")]
    Socket {
        /// The configuration key of the socket.
        what: &'static str,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
    /// The registry's thread ended although the daemon was not stopping. All changes that were
    /// answered are on disk.
    #[error("the registry's thread ended unexpectedly")]
    Registry,
    /// Another system call failed while the daemon started.
    #[error("failed to start the daemon")]
    System(#[from] std::io::Error),
}

impl From<BindError> for ServeError {
    fn from(BindError { key, source }: BindError) -> Self {
        Self::Socket { what: key, source }
    }
}

/// Runs the daemon until SIGTERM or SIGINT. With `force`, a daemon that runs already is ended
/// first.
///
/// # Errors
///
/// [`ServeError`]: which part could not be started, or that the registry's thread failed.
pub async fn run(config: &Config, force: bool) -> Result<RunOutcome, ServeError> {
    let settings = config.settings();
    let redactor = Redactor::new(settings.redact_mode, &settings.redact)?;
    let socket = client::daemon::socket_path();
    let (instance_lock, listener) = match instance::claim_socket(&socket, force)? {
        Claim::OtherDaemon(pid) => return Ok(RunOutcome::AlreadyRuns(pid)),
        Claim::ThisProcess(instance_lock, listener) => (instance_lock, listener),
    };
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    log::to_stderr();
    raise_descriptor_limit();
    let metrics_socket = socket.with_file_name("metrics.sock");
    let bound = BoundSockets::bind(
        &metrics_socket,
        settings.metrics_address.as_deref(),
        settings.probe_socket.as_deref(),
    )?;
    // After the sockets are bound, which may need more rights: a port below 1024, or a directory of
    // another user. Before the first thread is made, because a thread inherits what is given up.
    confine();
    let inspector = Arc::new(Inspector::new(redactor)?);
    let intervals =
        Intervals { liveness: settings.liveness_interval, last_seen: settings.last_seen_interval };
    let state: PathBuf = instance::state_dir();
    let (handle, mut running) = owner::start_registry(&state, inspector.boot, intervals)?;
    let metrics = Metrics::default();
    let (probe, _) = broadcast::channel(sockets::PROBE_LINES_MAX);
    let (runtime_dir, follows_shims) = (registration::runtime_dir(), follows_shims());
    let history = match follows_shims {
        true => start_history(settings, &state, &runtime_dir)?,
        false => None,
    };
    let stored = history.as_ref().map(HistoryThread::history);
    let node = match follows_shims {
        true => Some(Node::open(&state, &runtime_dir, metrics.clone(), probe.clone(), stored)?),
        false => None,
    };
    let text = scrape_text(metrics, handle.clone(), node.clone(), probe.clone());
    let serving = bound.serve(text, probe)?;
    let service = RegistryService::new(handle.clone(), inspector, node.clone());
    let (accepted, _) = accept::accept_ttrpc(listener.into())?;
    let mut server = Server::new()
        .add_listener(Listener::new(accepted))
        .register_service(api::registry::create_registry(Arc::new(service)));
    server.start().await?;
    tracing::info!(
        pid = std::process::id(),
        socket = %socket.display(),
        state = %state.display(),
        "daemon serving"
    );
    let mut has_failed = false;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        // While `handle` is alive, the registry's thread ends only by an error or a panic.
        () = running.ended() => has_failed = true,
        () = follow_shims(node.as_ref()) => {}
        () = serving => {}
    }
    // The socket of the Registry service is removed by `shut_down`, with the instance lock.
    let others = [Some(metrics_socket), settings.probe_socket.clone()];
    others.iter().flatten().for_each(|path| drop(std::fs::remove_file(path)));
    tracing::info!("daemon exiting");
    shut_down(server, handle, running, history, instance_lock).await;
    if has_failed { Err(ServeError::Registry) } else { Ok(RunOutcome::Stopped) }
}

/// Starts the history; `None` if it is off.
fn start_history(
    settings: &Settings,
    state: &Path,
    runtime_dir: &Path,
) -> std::io::Result<Option<HistoryThread>> {
    if settings.history_size == 0 {
        return Ok(None);
    }
    let limits = Limits { size_bytes: settings.history_size, age: settings.history_age };
    History::start(state, limits, node::living_epochs(runtime_dir)).map(Some)
}

/// Shuts the daemon down: finishes the pending answers, removes the socket, then waits for the
/// threads of the registry and of the history.
async fn shut_down(
    mut server: Server,
    handle: RegistryHandle,
    running: RegistryThread,
    history: Option<HistoryThread>,
    instance_lock: InstanceLock,
) {
    server.stop_listen().await;
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, server.shutdown()).await;
    drop((server, handle));
    // The lock removes the socket when it is dropped: after the last answer, so that no client
    // finds a socket at which no process serves.
    drop(instance_lock);
    let joined = tokio::task::spawn_blocking(move || {
        // What the history does not store within the timeout, the shims send again to the next
        // daemon.
        history.into_iter().for_each(HistoryThread::stop);
        running.join()
    });
    // A request handler that is still running keeps the registry's thread alive through its handle.
    // Its change is on disk already, so the daemon does not wait for it any longer.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, joined).await;
}

/// Returns a function that makes the OpenMetrics text of one scrape each time it is called.
fn scrape_text(
    metrics: Metrics,
    handle: RegistryHandle,
    node: Option<Node>,
    probe: broadcast::Sender<Arc<str>>,
) -> impl Fn() -> sockets::ScrapeFuture + Clone {
    let shared = (metrics, handle, node, probe, Arc::<LabelUsages>::default());
    move || -> sockets::ScrapeFuture {
        let (metrics, handle, node, probe, usages) = shared.clone();
        Box::pin(async move {
            let mut values = read_scrape_values(&handle, node.as_ref(), probe.len()).await;
            (values.usage, values.unsampled) = sample_labels(&handle, usages).await;
            metrics.openmetrics_text(&values)
        })
    }
}

/// Samples the registered processes by tag and group. Returns also how many were too many.
async fn sample_labels(handle: &RegistryHandle, usages: Arc<LabelUsages>) -> (UsageByLabel, usize) {
    let all = Selector { alive: true, ..Selector::default() };
    let labelled = handle
        .request(move |owner| {
            let selected = owner.registry().select(&all, 0);
            Ok(selected.filter_map(LabelledProcess::of).collect::<Vec<_>>())
        })
        .await
        .unwrap_or_default();
    let unsampled = labelled.len().saturating_sub(SAMPLED_MAX);
    let sampled = tokio::task::spawn_blocking(move || usages.sample(&labelled)).await;
    (sampled.unwrap_or_default(), unsampled)
}

/// Whether this daemon follows the node's shims. The daemon of root does, and a daemon for which
/// `LOOKOUT_RUNTIME_DIR` is set. Other users may not connect to shims.
fn follows_shims() -> bool {
    nix::unistd::geteuid().is_root()
        || std::env::var_os("LOOKOUT_RUNTIME_DIR").is_some_and(|dir| !dir.is_empty())
}

/// Follows the shims of the node. Never resolves, also if this daemon follows no shims (`None`).
async fn follow_shims(node: Option<&Node>) {
    match node {
        Some(node) => node.run(&registration::runtime_dir()).await,
        None => std::future::pending().await,
    }
}

/// Reads the values that the metrics have in addition to the counters.
async fn read_scrape_values(
    handle: &RegistryHandle,
    node: Option<&Node>,
    probe_waiting: usize,
) -> ScrapeValues {
    let counts =
        handle.request(|owner| Ok((owner.registry().len(), owner.registry().living_count()))).await;
    let (entries, living) = counts.unwrap_or_default();
    let shims = node.map(Node::shims).unwrap_or_default();
    let own = i32::try_from(std::process::id())
        .ok()
        .and_then(identify)
        .and_then(usage)
        .unwrap_or_default();
    // The shims are taken from the registrations and not from `node`: a daemon that follows no
    // shims also reports the memory and the unpublished events of shims.
    let registered =
        registration::registrations(&registration::runtime_dir(), None).unwrap_or_default();
    let of = |one: &registration::Registration| ProcessKey::new(one.pid, one.start);
    let memory: u64 =
        registered.iter().filter_map(|one| usage(of(one))).map(|usage| usage.rss_bytes).sum();
    ScrapeValues {
        entries,
        living,
        commands_waiting: handle.waiting_jobs(),
        probe_waiting,
        shims: (shims.len(), shims.iter().filter(|shim| shim.connected).count()),
        unpublished: UnpublishedEvents::collect(registered).await,
        container_counts: node.map(Node::process_and_port_counts).unwrap_or_default(),
        stream_bytes: node.map(Node::stream_length).unwrap_or_default(),
        history: node.and_then(Node::history).map(History::figures).unwrap_or_default(),
        memory: (own.rss_bytes, memory),
        fds: own.fds.unwrap_or_default(),
        ..ScrapeValues::default()
    }
}

/// Raises the limit of descriptors to the hard limit: each registered process takes a descriptor.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
