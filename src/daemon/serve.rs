//! One daemon's life: takes its place, reads the registry, serves until TERM.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::r#async::{Server, transport::Listener};

use super::{
    Outcome,
    instance::{self, Claim, InstanceError},
    metrics::{Metrics, Now},
    node::{Node, NodeError},
    service::Service,
    sockets,
    unpublished::Unpublished,
};
use crate::{
    accept, api, client,
    config::Config,
    linux::process::{identify, usage},
    log,
    model::ProcessKey,
    observe::redact::{RedactError, Redactor},
    registration,
    registry::{
        inspector::Inspector,
        owner::{self, Handle, Intervals},
        store::StoreError,
    },
};

/// How long answers that are under way may take after TERM.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A daemon could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Its place.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Its registry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The patterns of the configuration.
    #[error("redact in the configuration")]
    Redact(#[from] RedactError),
    /// The socket's service.
    #[error("failed to serve")]
    Serve(#[from] ttrpc::Error),
    /// The stream of the node's events.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Another socket of the configuration.
    #[error("failed to serve {what}")]
    Socket {
        /// What, as its key is called.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The registry's thread ended by itself; what was answered is on disk.
    #[error("the registry failed")]
    Registry,
    /// Something of the system.
    #[error("failed to start")]
    System(#[from] std::io::Error),
}

/// Serves until TERM or INT. `force` replaces a daemon that runs. Called before there are other
/// threads.
///
/// # Errors
///
/// [`ServeError`] names what it could not begin with.
pub async fn run(config: &Config, force: bool) -> Result<Outcome, ServeError> {
    let settings = config.settings();
    let redactor = Redactor::new(&settings.redact)?;
    let socket = client::daemon::socket();
    let (instance_lock, listener) = match instance::take(&socket, force)? {
        Claim::Theirs(pid) => return Ok(Outcome::Runs(pid)),
        Claim::Ours(instance_lock, listener) => (instance_lock, listener),
    };
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    log::to_stderr();
    raise_descriptors();
    let inspector = Arc::new(Inspector::new(redactor)?);
    let intervals =
        Intervals { liveness: settings.liveness_interval, last_seen: settings.last_seen_interval };
    let state: PathBuf = instance::state_dir();
    let (handle, mut running) = owner::start(&state, inspector.boot, intervals)?;
    let metrics = Metrics::default();
    let (probe, _) = tokio::sync::broadcast::channel(sockets::PROBE_WAITING);
    let node = match follows_shims() {
        true => {
            Some(Node::open(&state, &registration::runtime_dir(), metrics.clone(), probe.clone())?)
        }
        false => None,
    };
    let scraped = (metrics, handle.clone(), node.clone(), probe.clone());
    let text = move || -> sockets::TextFuture {
        let (metrics, handle, node, probe) = scraped.clone();
        Box::pin(async move { metrics.text(&now(&handle, node.as_ref(), probe.len()).await) })
    };
    let failed = |what| move |source| ServeError::Socket { what, source };
    let metrics_socket = socket.with_file_name("metrics.sock");
    let scrapes = sockets::metrics(&metrics_socket, settings.metrics_address.as_deref(), text);
    let scrapes = scrapes.await.map_err(failed("metrics_address"))?;
    let probing = match &settings.probe_socket {
        Some(path) => Some(sockets::probe(path, probe).map_err(failed("probe_socket"))?),
        None => None,
    };
    let service = Service::new(handle.clone(), inspector, node.clone());
    let (accepted, _) = accept::accept(listener.into())?;
    let mut server = Server::new()
        .add_listener(Listener::new(accepted))
        .register_service(api::registry::create_registry(Arc::new(service)));
    server.start().await?;
    tracing::info!(pid = std::process::id(), socket = %socket.display(), state = %state.display(), "serving");
    let mut has_failed = false;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = running.ended() => has_failed = true,
        () = follow(node.as_ref()) => {}
        () = scrapes => {}
        () = or_never(probing) => {}
    }
    // What else this process made.
    let others = [Some(metrics_socket), settings.probe_socket.clone()];
    others.iter().flatten().for_each(|path| drop(std::fs::remove_file(path)));
    tracing::info!("leaving");
    server.stop_listen().await;
    let _ = tokio::time::timeout(LAST_ANSWERS, server.shutdown()).await;
    drop((server, handle));
    // After the last answer, which is on disk: nobody finds a socket that does not serve.
    drop(instance_lock);
    let joined = tokio::task::spawn_blocking(move || running.join());
    // A handler that still waits keeps the thread; it waits for nothing that is not on disk.
    let _ = tokio::time::timeout(LAST_ANSWERS, joined).await;
    if has_failed { Err(ServeError::Registry) } else { Ok(Outcome::Ended) }
}

/// Root's daemon follows the node's shims; so does one whose run-time folder was named. Others may
/// not connect.
fn follows_shims() -> bool {
    nix::unistd::geteuid().is_root()
        || std::env::var_os("LOOKOUT_RUNTIME_DIR").is_some_and(|dir| !dir.is_empty())
}

async fn follow(node: Option<&Node>) {
    match node {
        Some(node) => node.run(&registration::runtime_dir()).await,
        None => std::future::pending().await,
    }
}

async fn or_never(task: Option<impl Future<Output = ()>>) {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// What a scrape reads.
async fn now(handle: &Handle, node: Option<&Node>, probe_waiting: usize) -> Now {
    let counts = handle.ask(|owner| Ok((owner.registry().len(), owner.registry().living()))).await;
    let (entries, living) = counts.unwrap_or_default();
    let shims = node.map(Node::shims).unwrap_or_default();
    let own = i32::try_from(std::process::id())
        .ok()
        .and_then(identify)
        .and_then(usage)
        .unwrap_or_default();
    let registered =
        registration::registrations(&registration::runtime_dir(), None).unwrap_or_default();
    let of = |one: &registration::Registration| ProcessKey { pid: one.pid, start_ticks: one.start };
    let memory: u64 =
        registered.iter().filter_map(|one| usage(of(one))).map(|usage| usage.rss_bytes).sum();
    Now {
        entries,
        living,
        commands_waiting: handle.waiting(),
        probe_waiting,
        shims: (shims.len(), shims.iter().filter(|shim| shim.connected).count()),
        unpublished: Unpublished::ask(registered).await,
        contained: node.map(Node::counts).unwrap_or_default(),
        stream_bytes: node.map(Node::stream_length).unwrap_or_default(),
        memory: (own.rss_bytes, memory),
        fds: own.fds.unwrap_or_default(),
    }
}

/// A descriptor for each process that is registered.
fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
