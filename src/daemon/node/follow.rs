//! Follows the shims of the node, with one async task for each shim.

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

/// The first and the longest pause before the daemon connects to a living shim again. A shim that
/// observes no container refuses the stream. It may observe one later, so the daemon connects to
/// such a shim again too.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The pause before the directory of registrations is read again after an error.
const DIRECTORY_RETRY: Duration = Duration::from_secs(5);

/// The node's containers and shims. A clone shares the state.
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
    /// The shims that are followed, by epoch.
    shims: HashMap<String, Followed>,
}

#[derive(Debug)]
struct Followed {
    shim: FollowedShim,
    connected: Connected,
}

/// The stream's file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the file of the node's events")]
pub struct NodeError(#[from] io::Error);

impl Node {
    /// Opens the stream's file in `directory` and records in it that events before this moment may
    /// be missing. Each exec of a container's process is sent to `probe`.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the stream's file cannot be opened or read.
    pub fn open(
        directory: &Path,
        runtime_dir: &Path,
        metrics: Metrics,
        probe: tokio::sync::broadcast::Sender<Arc<str>>,
    ) -> Result<Self, NodeError> {
        let mut stream = Stream::open(directory)?;
        record_absence(&mut stream, runtime_dir);
        let state = State { stream, view: View::default(), shims: HashMap::new() };
        Ok(Self { state: Arc::new(Mutex::new(state)), metrics, probe })
    }

    /// The living processes of all containers.
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

    /// The number of living processes, and the number of open ports, of all containers.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.state().view.counts()
    }

    /// The shims that are followed, by namespace and id.
    #[must_use]
    pub fn shims(&self) -> Vec<FollowedShim> {
        let current = |followed: &Followed| FollowedShim {
            connected: followed.connected.is(),
            ..followed.shim.clone()
        };
        let mut shims: Vec<_> = self.state().shims.values().map(current).collect();
        shims.sort_by(|one, other| (&one.namespace, &one.id).cmp(&(&other.namespace, &other.id)));
        shims
    }

    /// The length of the stream's file in bytes.
    #[must_use]
    pub fn stream_length(&self) -> u64 {
        self.state().stream.length()
    }

    /// Follows the shims that are registered in a runtime directory. Never returns.
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
                        tracing::warn!(%error, "failed to list the registered shims, retrying");
                        tokio::time::sleep(DIRECTORY_RETRY).await;
                    }
                },
                Some(ended) = followers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "stopped following a shim: its async task failed");
                    }
                }
            }
        }
    }

    /// Follows one shim until it has ended.
    async fn follow(self, registration: Registration) {
        let epoch = key(&registration);
        let mut pause = RETRY.0;
        tracing::info!(
            namespace = registration.namespace,
            shim = registration.id,
            epoch,
            "following the events of a shim"
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
            self.add_shim(&registration, &epoch, events.connected());
            // The stream begins at the cursor, and the shim makes the lists later, so no event
            // between the cursor and the lists is missing. The view ignores the events that the
            // lists include.
            self.refresh(&registration, &epoch).await;
            let end = loop {
                match events.next().await {
                    Step::Events(batch) => {
                        // Events arrive again, so the pauses after the next failure start anew.
                        pause = RETRY.0;
                        if self.record(&epoch, &batch) {
                            self.refresh(&registration, &epoch).await;
                        }
                    }
                    end => break end,
                }
            };
            // A stream can end while the shim is still exiting. Then the shim is checked again
            // after the pause.
            if matches!(end, Step::End) && !registration.is_alive() {
                self.remove_shim(&epoch, Stream::write_departure);
                return;
            }
            if let Step::Broken(Some(error)) = &end {
                tracing::info!(
                    shim = registration.id,
                    error = chain(error),
                    "the stream of a shim broke, retrying"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
            if !registration.is_alive() {
                // The events are complete only if the shim itself has ended the stream.
                let end = if matches!(end, Step::End) {
                    Stream::write_departure
                } else {
                    Stream::write_incomplete
                };
                self.remove_shim(&epoch, end);
                return;
            }
        }
    }

    /// Adds a shim to those that are followed. `connected` belongs to the stream of its events.
    fn add_shim(&self, registration: &Registration, epoch: &str, connected: Connected) {
        let mut state = self.state();
        let seq = state.stream.cursor(epoch).unwrap_or_default();
        let Registration { namespace, id, .. } = registration.clone();
        let shim =
            FollowedShim { namespace, id, epoch: epoch.to_owned(), seq, ..Default::default() };
        state.shims.insert(epoch.to_owned(), Followed { shim, connected });
    }

    /// Asks a shim for its processes and ports, and replaces the shim's part of the view by them.
    async fn refresh(&self, registration: &Registration, epoch: &str) {
        let Ok(shim) = Shim::connect(registration.clone()).await else { return };
        let (processes, ports) = tokio::join!(shim.processes(""), shim.ports(""));
        // A shim that observes no container refuses the request, and has no part in the view.
        let Ok(processes) = processes else { return };
        let mut state = self.state();
        state.view.set_processes(epoch, processes);
        match ports {
            Ok(ports) => state.view.set_ports(epoch, ports),
            Err(error) => tracing::warn!(
                shim = shim.registration.id,
                error = chain(&error),
                "failed to list the open ports of a shim"
            ),
        }
    }

    /// Writes events to the stream and applies them. Returns whether events are missing, so that
    /// the view has to be refreshed.
    fn record(&self, epoch: &str, events: &[Event]) -> bool {
        let mut state = self.state();
        // Before the events are used: after a kill of the daemon, the shim sends all events that
        // are not in the file once more.
        state.stream.append(epoch, events);
        let mut is_incomplete = false;
        for event in events {
            self.metrics.count(event);
            is_incomplete |= state.view.apply(epoch, event);
            if self.probe.receiver_count() > 0
                && let Some(probe) = crate::client::json::Probe::of(event)
            {
                // Sending fails if the last reader has disconnected since the check.
                let _ = self.probe.send((crate::client::json::line(&probe) + "\n").into());
            }
        }
        let seq = state.stream.cursor(epoch).unwrap_or_default();
        if let Some(followed) = state.shims.get_mut(epoch) {
            followed.shim.seq = seq;
        }
        if let Some(newest) = events.last() {
            self.metrics.note_written(newest.time_ns);
        }
        is_incomplete
    }

    /// Stops following a shim that has ended. `end` writes to the stream that the shim has ended,
    /// and whether its events are complete.
    fn remove_shim(&self, epoch: &str, end: fn(&mut Stream, &str)) {
        let mut state = self.state();
        end(&mut state.stream, epoch);
        tracing::info!(epoch, "a shim has ended");
        state.view.forget(epoch);
        state.shims.remove(epoch);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that no daemon ran before this one: one gap for each shim that an earlier daemon
/// followed and that has ended since, and one gap for the shims that started and ended while no
/// daemon ran.
fn record_absence(stream: &mut Stream, runtime_dir: &Path) {
    let living = registrations(runtime_dir, None).unwrap_or_default();
    let is_alive = |epoch: &str| living.iter().any(|registration| key(registration) == epoch);
    let ended: Vec<String> =
        stream.open_epochs().filter(|epoch| !is_alive(epoch)).map(str::to_owned).collect();
    ended.iter().for_each(|epoch| stream.write_incomplete(epoch));
    stream.write_incomplete("");
}

/// The epoch of a shim. If its registration has no epoch, the pid and the start of the shim
/// instead.
fn key(registration: &Registration) -> String {
    let Registration { epoch, pid, start, .. } = registration;
    if epoch.is_empty() { format!("{pid}-{start}") } else { epoch.clone() }
}
