//! The shims of the node as they come and go, each followed by a task.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::JoinSet;

use super::{stream::Stream, view::View};
use crate::{
    api::{Container, ContainerPort, ContainerProcess, Event, FollowedShim},
    client::{Connected, Follow, Registration, Shim, Shims, Step, Wanted, registrations},
    daemon::metrics::Metrics,
    model::chain,
};

/// Between two attempts at a shim that lives and does not tell: the first, and the longest. One
/// that observes nothing is such a shim.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Between two attempts at the folder of the shims.
const FOLDER_RETRY: Duration = Duration::from_secs(5);

/// What the daemon knows of the node's containers.
#[derive(Debug, Clone)]
pub struct Node {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
    probe: tokio::sync::broadcast::Sender<Arc<str>>,
}

#[derive(Debug)]
struct State {
    stream: Stream,
    view: View,
    /// By epoch.
    shims: HashMap<String, Followed>,
}

#[derive(Debug)]
struct Followed {
    shim: FollowedShim,
    connected: Connected,
}

/// The stream of events cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the stream of events")]
pub struct NodeError(#[from] io::Error);

impl Node {
    /// Goes on with the stream in a folder, which says from here on that nobody was there before.
    /// What begins to run goes to `probe`.
    ///
    /// # Errors
    ///
    /// [`NodeError`].
    pub fn open(
        folder: &Path,
        runtime_dir: &Path,
        metrics: Metrics,
        probe: tokio::sync::broadcast::Sender<Arc<str>>,
    ) -> Result<Self, NodeError> {
        let mut stream = Stream::open(folder)?;
        tell_absence(&mut stream, runtime_dir);
        let state = State { stream, view: View::default(), shims: HashMap::new() };
        Ok(Self { state: Arc::new(Mutex::new(state)), metrics, probe })
    }

    /// The processes of all containers.
    #[must_use]
    pub fn processes(&self) -> Vec<ContainerProcess> {
        self.state().view.processes()
    }

    /// The containers that are idle.
    #[must_use]
    pub fn idle(&self) -> Vec<Container> {
        self.state().view.idle()
    }

    /// The open ports of all containers.
    #[must_use]
    pub fn ports(&self) -> Vec<ContainerPort> {
        self.state().view.ports()
    }

    /// How many processes, and how many ports.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.state().view.counts()
    }

    /// The shims that are followed, in order.
    #[must_use]
    pub fn shims(&self) -> Vec<FollowedShim> {
        let now =
            |one: &Followed| FollowedShim { connected: one.connected.is(), ..one.shim.clone() };
        let mut shims: Vec<_> = self.state().shims.values().map(now).collect();
        shims.sort_by(|one, other| (&one.namespace, &one.id).cmp(&(&other.namespace, &other.id)));
        shims
    }

    /// Bytes of the stream's file.
    #[must_use]
    pub fn stream_length(&self) -> u64 {
        self.state().stream.length()
    }

    /// Follows the shims of a run-time folder for ever.
    pub async fn run(&self, runtime_dir: &Path) {
        let mut shims = Shims::new(runtime_dir.to_owned(), None);
        let mut followers = JoinSet::new();
        loop {
            tokio::select! {
                new = shims.next() => match new {
                    Ok(new) => new.into_iter().for_each(|registration| {
                        followers.spawn(self.clone().follow(registration));
                    }),
                    Err(error) => {
                        tracing::warn!(%error, "failed to look for shims");
                        tokio::time::sleep(FOLDER_RETRY).await;
                    }
                },
                Some(ended) = followers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a follower failed");
                    }
                }
            }
        }
    }

    /// One shim until it has gone.
    async fn follow(self, registration: Registration) {
        let epoch = key(&registration);
        let mut pause = RETRY.0;
        tracing::info!(
            namespace = registration.namespace,
            shim = registration.id,
            epoch,
            "following"
        );
        loop {
            let since = self
                .state()
                .stream
                .cursor(&epoch)
                .map(|seq| format!("{epoch}:{seq}"))
                .unwrap_or_default();
            let mut events = Follow::new(
                registration.clone(),
                Wanted { since, follow: true, ..Default::default() },
            );
            self.begin(&registration, &epoch, events.connected());
            self.ask(&registration, &epoch).await;
            let end = loop {
                match events.next().await {
                    Step::Events(batch) => {
                        pause = RETRY.0;
                        if self.take(&epoch, &batch) {
                            self.ask(&registration, &epoch).await;
                        }
                    }
                    end => break end,
                }
            };
            if matches!(end, Step::End) && !registration.is_alive() {
                self.leave(&epoch, Stream::left);
                return;
            }
            if let Step::Broken(Some(error)) = &end {
                tracing::info!(
                    shim = registration.id,
                    error = chain(error),
                    "a shim does not tell"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
            if !registration.is_alive() {
                let end = if matches!(end, Step::End) { Stream::left } else { Stream::broken };
                self.leave(&epoch, end);
                return;
            }
        }
    }

    /// A shim is followed, by a stream that says whether it is connected.
    fn begin(&self, registration: &Registration, epoch: &str, connected: Connected) {
        let mut state = self.state();
        let seq = state.stream.cursor(epoch).unwrap_or_default();
        let Registration { namespace, id, .. } = registration.clone();
        let shim =
            FollowedShim { namespace, id, epoch: epoch.to_owned(), seq, ..Default::default() };
        state.shims.insert(epoch.to_owned(), Followed { shim, connected });
    }

    /// Who lives and what is open, by the shim itself.
    async fn ask(&self, registration: &Registration, epoch: &str) {
        let Ok(shim) = Shim::connect(registration.clone()).await else { return };
        let (processes, ports) = tokio::join!(shim.processes(""), shim.ports(""));
        // What does not observe has nobody to tell of.
        let Ok(processes) = processes else { return };
        let mut state = self.state();
        state.view.set_processes(epoch, processes);
        match ports {
            Ok(ports) => state.view.set_ports(epoch, ports),
            Err(error) => tracing::warn!(
                shim = shim.registration.id,
                error = chain(&error),
                "a shim lists no ports"
            ),
        }
    }

    /// Takes events over. Whether the shim has to be asked who lives.
    fn take(&self, epoch: &str, events: &[Event]) -> bool {
        let mut state = self.state();
        state.stream.append(epoch, events);
        let mut is_incomplete = false;
        for event in events {
            self.metrics.count(event);
            is_incomplete |= state.view.apply(epoch, event);
            if self.probe.receiver_count() > 0
                && let Some(probe) = crate::client::json::Probe::of(event)
            {
                // A reader that left is not told.
                let _ = self.probe.send((crate::client::json::line(&probe) + "\n").into());
            }
        }
        let seq = state.stream.cursor(epoch).unwrap_or_default();
        if let Some(followed) = state.shims.get_mut(epoch) {
            followed.shim.seq = seq;
        }
        if let Some(newest) = events.last() {
            self.metrics.written(newest.time_ns);
        }
        is_incomplete
    }

    fn leave(&self, epoch: &str, end: fn(&mut Stream, &str)) {
        let mut state = self.state();
        end(&mut state.stream, epoch);
        tracing::info!(epoch, "a shim has gone");
        state.view.forget(epoch);
        state.shims.remove(epoch);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shims may have come and gone while no daemon was there, and those that one followed may have.
fn tell_absence(stream: &mut Stream, runtime_dir: &Path) {
    let living = registrations(runtime_dir, None).unwrap_or_default();
    let lives = |epoch: &str| living.iter().any(|one| key(one) == epoch);
    let gone: Vec<String> =
        stream.open_epochs().filter(|epoch| !lives(epoch)).map(str::to_owned).collect();
    gone.iter().for_each(|epoch| stream.broken(epoch));
    stream.broken("");
}

/// A shim's run.
fn key(registration: &Registration) -> String {
    let Registration { epoch, pid, start, .. } = registration;
    if epoch.is_empty() { format!("{pid}-{start}") } else { epoch.clone() }
}
