//! The serving process: serves as long as it has containers, and exits after Shutdown.

use std::{env, fs, io, io::Write as _, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use containerd_shim_protos::ttrpc::r#async::{Server, transport::Listener};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Outcome, args::Arguments, node, socket::Socket};
use crate::{
    accept::{self, FirstConnection},
    config::Config,
    log,
    model::chain,
    observe::shim::{Observer, ShimIdentity, tables},
    publish::{Publisher, Sender},
    reaper::Reaper,
    sys,
    task::{Service, Shared, Supervisor},
    workers,
};

/// What the serving process writes to the readiness pipe when it serves.
pub(super) const READY: &str = "ready";

/// The number of the inherited descriptor of the listening socket.
const LISTENER_FD: i32 = 3;
/// The number of the inherited descriptor of the readiness pipe, which `start` reads.
const READINESS_FD: i32 = 4;

/// Time after its start at which a shim exits if it has had neither a connection nor a container.
const UNUSED_EXIT_AFTER: Duration = Duration::from_secs(60);

/// Time that subscribers of the observer have after Shutdown to read the last events.
const SUBSCRIBERS_GRACE: Duration = Duration::from_secs(1);

/// Time after Shutdown in which task events are still sent to containerd.
const TASK_EVENTS_GRACE: Duration = Duration::from_secs(60);

/// The number of times that the shim yields to the async executor after Shutdown, so that the
/// answer is written before the process exits. At each yield, every async task that is ready runs
/// once. The handler needs one, the connection's writer needs one, and the others are a reserve.
const LAST_YIELDS: usize = 16;

/// Runs the serving process until Shutdown, a signal, or 60 s without a connection and a container.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    // This must happen before another thread exists, because glibc makes an arena for each thread.
    sys::process::use_one_malloc_arena();
    let listener = sys::fd::inherited(LISTENER_FD)?;
    let readiness = fs::File::from(sys::fd::inherited(READINESS_FD)?);
    log::to_fifo(arguments.log_level());
    // The threads for calls that may block are `workers`. tokio's own are not used, because it
    // makes them when they are needed, and panics if it cannot.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments, listener, readiness))
}

async fn serve(arguments: &Arguments, listener: OwnedFd, mut readiness: fs::File) -> Outcome {
    let shim = match Shim::new(arguments, listener).await {
        Ok(shim) => shim,
        Err(error) => {
            let _ = write!(readiness, "{}", super::one_line(&*error));
            return Err(error);
        }
    };
    readiness.write_all(READY.as_bytes())?;
    drop(readiness);
    tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "shim serving");
    shim.run().await;
    Ok(())
}

/// The parts of a serving shim.
struct Shim {
    server: Server,
    supervisor: Supervisor,
    observer: Observer,
    spawner: node::HelperSpawner,
    reaper: Reaper,
    publisher: Publisher,
    sender: Sender,
    connected: FirstConnection,
    signals: Signals,
    socket: Option<Socket>,
    socket_identity: Option<(u64, u64)>,
}

/// The signals that the serving process handles: `SIGCHLD`, `SIGTERM`, `SIGINT` and `SIGUSR1`.
struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
}

/// The reason why a shim exits.
#[derive(Debug, Clone, Copy)]
enum ExitReason {
    Shutdown,
    Signal,
    Unused,
}

impl Shim {
    /// Sets up the process and all parts of the shim, and begins to serve.
    async fn new(
        arguments: &Arguments,
        listener: OwnedFd,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        sys::nofile::raise()?;
        workers::start()?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let container_oom_score_adj = raise_oom_score();
        // A core file of the shim could contain secrets from a container's arguments. This follows
        // the change of the OOM score, because the files of a non-dumpable process in /proc belong
        // to root, so the shim could not write the score any more.
        nix::sys::prctl::set_dumpable(false)?;
        let signals = Signals {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined1())?,
        };
        let reaper = Reaper::default();
        let ttrpc_address =
            env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", arguments.address));
        let outbox = PathBuf::from("events.journal");
        let (publisher, sender) = Publisher::new(&arguments.namespace, &ttrpc_address, &outbox);
        let (requests, spawner) = node::helper_channel(reaper.clone());
        let config = Config::load().map_err(|error| {
            let why = chain(&error);
            tracing::error!(
                why,
                "the configuration is invalid: this shim will not observe its containers"
            );
            why
        });
        let address = env::var("LOOKOUT_SHIM_SOCKET").unwrap_or_default();
        let identity = ShimIdentity {
            namespace: arguments.namespace.clone(),
            shim_id: arguments.id.clone(),
            address,
        };
        let observer = Observer::new(config, identity, Arc::new(requests));
        let supervisor = Supervisor::new(Shared {
            namespace: arguments.namespace.clone(),
            reaper: reaper.clone(),
            publisher: publisher.clone(),
            container_oom_score_adj,
            watch: Some(Arc::new(observer.clone())),
        });
        let (accepted, connected) = accept::accept_ttrpc(listener)?;
        let mut server = Server::new()
            .add_listener(Listener::new(accepted))
            .register_service(Service::new(supervisor.clone()).tables())
            .register_service(tables(observer.clone(), publisher.clone()));
        server.start().await?;
        let socket = env::var("LOOKOUT_SHIM_SOCKET").ok().as_deref().and_then(Socket::at);
        let socket_identity = socket.as_ref().and_then(Socket::identity);
        Ok(Self {
            server,
            supervisor,
            observer,
            spawner,
            reaper,
            publisher,
            sender,
            connected,
            signals,
            socket,
            socket_identity,
        })
    }

    /// Serves until the shim is to exit, and then lets subscribers and containerd read the last
    /// events.
    async fn run(self) {
        let Self {
            mut server,
            supervisor,
            observer,
            spawner,
            reaper,
            publisher,
            sender,
            connected,
            ..
        } = self;
        let Self { mut signals, socket, socket_identity, .. } = self;
        let run_until_exit = async {
            let why = loop {
                tokio::select! {
                    () = supervisor.shutdown_accepted() => break ExitReason::Shutdown,
                    () = unused(&supervisor, &connected) => break ExitReason::Unused,
                    _ = signals.terminate.recv() => break ExitReason::Signal,
                    _ = signals.interrupt.recv() => break ExitReason::Signal,
                    _ = signals.user.recv() => report(&supervisor, &reaper, &publisher),
                }
            };
            // The socket is removed first, so that no `start` finds this shim and adds a container
            // to it.
            if let Some(socket) = &socket {
                socket.remove_own(socket_identity);
            }
            tracing::info!(?why, "shim exiting");
            server.stop_listen().await;
            observer.stop(SUBSCRIBERS_GRACE).await;
            for _ in 0..LAST_YIELDS {
                tokio::task::yield_now().await;
            }
            if let Err(left) = publisher.drain(TASK_EVENTS_GRACE).await {
                tracing::error!(
                    bytes = left.0,
                    "lost task events: the shim exits before containerd has acknowledged them"
                );
            }
        };
        // Only `run_until_exit` completes. The other futures run concurrently, so that reaping and
        // sending continue until the last event is acknowledged.
        tokio::select! {
            () = run_until_exit => {}
            () = sender.run() => {}
            () = spawner.run() => {}
            () = observer.send_to_bus(&publisher) => {}
            () = reap(&reaper, &mut signals.child) => {}
        }
    }
}

/// Reaps at each `SIGCHLD`. Never returns in practice.
async fn reap(reaper: &Reaper, child: &mut Signal) {
    loop {
        reaper.reap();
        if child.recv().await.is_none() {
            return;
        }
    }
}

/// Resolves after [`UNUSED_EXIT_AFTER`] if there was neither a connection nor a container.
/// Otherwise never.
async fn unused(supervisor: &Supervisor, connected: &FirstConnection) {
    tokio::time::sleep(UNUSED_EXIT_AFTER).await;
    if connected.happened() || supervisor.had_containers() {
        std::future::pending::<()>().await;
    }
}

/// Logs one line about the state of the shim. Called after `SIGUSR1`.
fn report(supervisor: &Supervisor, reaper: &Reaper, publisher: &Publisher) {
    let (containers, children, unacknowledged_bytes) =
        (supervisor.container_count(), reaper.living(), publisher.unpublished().bytes);
    tracing::info!(containers, children, unacknowledged_bytes, "shim status, requested by SIGUSR1");
}

/// Raises the shim's OOM score to one more than containerd's, so that the kernel kills a shim
/// before containerd. Returns the score for containers (that of containerd), or `None` if the
/// shim's score was not raised.
fn raise_oom_score() -> Option<i32> {
    const OOM_SCORE_MAX: i32 = 1000;
    let path = "/proc/self/oom_score_adj";
    let inherited: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let raised = (inherited + 1).min(OOM_SCORE_MAX);
    if raised == inherited {
        return None;
    }
    let written: io::Result<()> = fs::write(path, raised.to_string());
    written
        .inspect_err(|error| tracing::warn!(%error, "failed to raise the shim's OOM score"))
        .ok()?;
    Some(inherited)
}
