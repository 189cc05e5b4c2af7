//! The server: lives with its containers, leaves after Shutdown.

use std::{env, fs, io, io::Write as _, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use containerd_shim_protos::ttrpc::r#async::{Server, transport::Listener};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Outcome, args::Arguments, node, socket::Socket};
use crate::{
    accept::{self, FirstConnection},
    config::Config,
    log,
    model::chain,
    observe::shim::{Observer, Seat, tables},
    publish::{Publisher, Sender},
    reaper::Reaper,
    sys,
    task::{Service, Shared, Supervisor},
};

/// What the server tells `start` when it serves.
pub(super) const READY: &str = "ready";

/// The inherited descriptors.
const LISTENER: i32 = 3;
const READINESS: i32 = 4;

/// A shim that nobody has connected to leaves after this long.
const UNWANTED: Duration = Duration::from_secs(60);

/// How long subscribers may take after Shutdown to read what is left for them.
const LAST_RECORDS: Duration = Duration::from_secs(1);

/// How long events are tried after Shutdown.
const LAST_EVENTS: Duration = Duration::from_secs(60);

/// How many turns the answer to Shutdown gets to leave before the process does: the handler's, the
/// connection's writer's, and some to spare. A turn lets every task that is ready run once.
const LAST_TURNS: usize = 16;

/// At most so many threads for what may block: mounts, cgroups, log files.
const POOL: usize = 4;

/// How long an idle one of them stays.
const POOL_KEEP_ALIVE: Duration = Duration::from_millis(500);

/// What those threads need of stack: path walks and formatting.
const POOL_STACK: usize = 256 << 10;

/// Serves until there is no reason to.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    // Before any other thread exists.
    sys::process::use_one_malloc_arena();
    let listener = sys::fd::inherited(LISTENER)?;
    let readiness = fs::File::from(sys::fd::inherited(READINESS)?);
    log::to_fifo(arguments.debug);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(POOL)
        .thread_keep_alive(POOL_KEEP_ALIVE)
        .thread_stack_size(POOL_STACK)
        .build()?;
    let served = runtime.block_on(serve(arguments, listener, readiness));
    // A relay that waits for a client's fifo does not keep the process.
    runtime.shutdown_background();
    served
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
    tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "serving");
    shim.live().await;
    Ok(())
}

/// Everything that a serving shim has.
struct Shim {
    server: Server,
    supervisor: Supervisor,
    observer: Observer,
    spawner: node::Spawner,
    reaper: Reaper,
    publisher: Publisher,
    sender: Sender,
    connected: FirstConnection,
    signals: Signals,
    socket: Option<Socket>,
    socket_identity: Option<(u64, u64)>,
}

struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
}

/// Why a shim leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Shutdown,
    Signal,
    Unwanted,
}

impl Shim {
    async fn new(
        arguments: &Arguments,
        listener: OwnedFd,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let container_oom_score_adj = raise_oom_score();
        // A crash must not leave what it saw of a container in a core file. After the score: what
        // is not dumpable gives its files in /proc to root.
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
        let journal = PathBuf::from("events.journal");
        let (publisher, sender) = Publisher::new(&arguments.namespace, &ttrpc_address, &journal);
        let (requests, spawner) = node::helpers(reaper.clone());
        let config = Config::load().map_err(|error| {
            let why = chain(&error);
            tracing::error!(why, "nothing is observed: the configuration is not taken");
            why
        });
        let address = env::var("LOOKOUT_SHIM_SOCKET").unwrap_or_default();
        let seat =
            Seat { namespace: arguments.namespace.clone(), shim_id: arguments.id.clone(), address };
        let observer = Observer::new(config, seat, Arc::new(requests));
        let supervisor = Supervisor::new(Shared {
            namespace: arguments.namespace.clone(),
            reaper: reaper.clone(),
            publisher: publisher.clone(),
            container_oom_score_adj,
            watch: Some(Arc::new(observer.clone())),
        });
        let (accepted, connected) = accept::accept(listener)?;
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

    async fn live(self) {
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
        let lives = async {
            let why = loop {
                tokio::select! {
                    () = supervisor.left() => break Leave::Shutdown,
                    () = unwanted(&supervisor, &connected) => break Leave::Unwanted,
                    _ = signals.terminate.recv() => break Leave::Signal,
                    _ = signals.interrupt.recv() => break Leave::Signal,
                    _ = signals.user.recv() => report(&supervisor, &reaper, &publisher),
                }
            };
            // No start may find this shim any more.
            if let Some(socket) = &socket {
                socket.remove_own(socket_identity);
            }
            tracing::info!(?why, "leaving");
            server.stop_listen().await;
            observer.stop(LAST_RECORDS).await;
            for _ in 0..LAST_TURNS {
                tokio::task::yield_now().await;
            }
            if let Err(left) = publisher.drain(LAST_EVENTS).await {
                tracing::error!(
                    bytes = left.0,
                    "leaving with events that containerd did not acknowledge"
                );
            }
        };
        tokio::select! {
            () = lives => {}
            () = sender.run() => {}
            () = spawner.run() => {}
            () = observer.carry(&publisher) => {}
            () = reap(&reaper, &mut signals.child) => {}
        }
    }
}

/// Reaps for ever.
async fn reap(reaper: &Reaper, child: &mut Signal) {
    loop {
        reaper.reap();
        if child.recv().await.is_none() {
            return;
        }
    }
}

/// Resolves when nobody has connected for a minute and there never was a container.
async fn unwanted(supervisor: &Supervisor, connected: &FirstConnection) {
    tokio::time::sleep(UNWANTED).await;
    if connected.happened() || supervisor.was_used() {
        std::future::pending::<()>().await;
    }
}

/// What `SIGUSR1` asks for: one line about how the shim is.
fn report(supervisor: &Supervisor, reaper: &Reaper, publisher: &Publisher) {
    let (containers, children, unacknowledged) =
        (supervisor.count(), reaper.living(), publisher.unpublished().bytes);
    tracing::info!(containers, children, unacknowledged, "asked by SIGUSR1");
}

/// Makes the shim a better victim than containerd: one more than its score. Answers with the score
/// that containers get, which is containerd's.
fn raise_oom_score() -> Option<i32> {
    const MAX: i32 = 1000;
    let path = "/proc/self/oom_score_adj";
    let inherited: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let raised = (inherited + 1).min(MAX);
    if raised == inherited {
        return None;
    }
    let written: io::Result<()> = fs::write(path, raised.to_string());
    written
        .inspect_err(|error| tracing::warn!(%error, "failed to raise the shim's OOM score"))
        .ok()?;
    Some(inherited)
}
