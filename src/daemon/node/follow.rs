//! Follows the shims of the node, with one async task for each shim.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use containerd_shim_protos::protobuf::Message;
use tokio::task::JoinSet;

use super::{
    stream::StreamFile,
    view::{NodeView, PortPosition, ProcessPosition},
};
use crate::{
    api::{Container, ContainerPort, ContainerProcess, Event, FollowedShim},
    client::{
        ConnectionState, EventFollower, FollowOptions, FollowStep, Registration, Shim,
        ShimDiscovery, registrations,
    },
    daemon::{
        history::{History, RecordedShim},
        metrics::Metrics,
    },
    model::chain,
};

/// The first and the longest pause before the daemon connects to a living shim again. A shim that
/// observes no container refuses the stream of events, but it may observe one later. So the daemon
/// connects to such a shim again too.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A page of a list ends with the first entry that makes it larger than this, in bytes.
const PAGE_MIN: u64 = 256 << 10;

/// The pause before the directory of registrations is read again after an error.
const DIRECTORY_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Follows the shims of the node, and has the state of its containers. A clone shares the state.
#[derive(Debug, Clone)]
pub struct Node {
    state: Arc<Mutex<NodeState>>,
    metrics: Metrics,
    probe: tokio::sync::broadcast::Sender<Arc<str>>,
    history: Option<History>,
}

#[derive(Debug)]
struct NodeState {
    stream: StreamFile,
    view: NodeView,
    /// The shims that are followed, by epoch.
    shims: HashMap<String, FollowedConnection>,
}

#[derive(Debug)]
struct FollowedConnection {
    shim: FollowedShim,
    connected: ConnectionState,
}

/// The file with the events of all shims could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the file of the node's events")]
pub struct NodeError(#[from] io::Error);

impl Node {
    /// Opens the stream's file in `directory` and records in it that events before this moment may
    /// be missing. Each exec of a container's process is sent to `probe`. Events are stored in
    /// `history` if there is one.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the stream's file cannot be opened or read.
    pub fn open(
        directory: &Path,
        runtime_dir: &Path,
        metrics: Metrics,
        probe: tokio::sync::broadcast::Sender<Arc<str>>,
        history: Option<History>,
    ) -> Result<Self, NodeError> {
        let mut stream = StreamFile::open(directory)?;
        record_absence(&mut stream, runtime_dir);
        let state = NodeState { stream, view: NodeView::default(), shims: HashMap::new() };
        Ok(Self { state: Arc::new(Mutex::new(state)), metrics, probe, history })
    }

    /// The history of the node's events; `None` if it is off.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// The living processes of all containers of the node.
    #[must_use]
    pub fn processes(&self) -> Vec<ContainerProcess> {
        self.lock_state().view.processes()
    }

    /// The living processes of containers that descend from a process, by the forks that the shims
    /// have reported.
    #[must_use]
    pub fn descendants(&self, entity_id: &str) -> Vec<ContainerProcess> {
        self.lock_state().view.descendants(entity_id)
    }

    /// The containers of the node that are idle.
    #[must_use]
    pub fn idle_containers(&self) -> Vec<Container> {
        self.lock_state().view.idle_containers()
    }

    /// One page of the living processes of all containers, and the position of its last process if
    /// further ones follow.
    #[must_use]
    pub fn processes_page(
        &self,
        after: Option<ProcessPosition>,
    ) -> (Vec<ContainerProcess>, Option<ProcessPosition>) {
        page(self.lock_state().view.processes_after(after))
    }

    /// One page of the open ports of all containers, likewise.
    #[must_use]
    pub fn ports_page(
        &self,
        after: Option<PortPosition>,
    ) -> (Vec<ContainerPort>, Option<PortPosition>) {
        page(self.lock_state().view.ports_after(after))
    }

    /// The number of living processes, and the number of open ports, of all containers.
    #[must_use]
    pub fn process_and_port_counts(&self) -> (usize, usize) {
        self.lock_state().view.process_and_port_counts()
    }

    /// The shims that are followed, by namespace and id.
    #[must_use]
    pub fn shims(&self) -> Vec<FollowedShim> {
        let current = |followed: &FollowedConnection| FollowedShim {
            connected: followed.connected.is_connected(),
            ..followed.shim.clone()
        };
        let mut shims: Vec<_> = self.lock_state().shims.values().map(current).collect();
        shims.sort_by(|one, other| (&one.namespace, &one.id).cmp(&(&other.namespace, &other.id)));
        shims
    }

    /// The length of the stream's file in bytes.
    #[must_use]
    pub fn stream_length(&self) -> u64 {
        self.lock_state().stream.length()
    }

    /// Follows the shims that are registered in a runtime directory. Never returns.
    pub async fn run(&self, runtime_dir: &Path) {
        let mut shims = ShimDiscovery::new(runtime_dir.to_owned(), None);
        let mut followers = JoinSet::new();
        loop {
            tokio::select! {
                new = shims.next_new() => match new {
                    Ok(new) => new.into_iter().for_each(|registration| {
                        followers.spawn(self.clone().follow_shim(registration));
                    }),
                    Err(error) => {
                        tracing::warn!(%error, "failed to list the registered shims, retrying");
                        tokio::time::sleep(DIRECTORY_RETRY_PAUSE).await;
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
    async fn follow_shim(self, registration: Registration) {
        let epoch = shim_epoch(&registration);
        let mut pause = RECONNECT_PAUSES.0;
        if let Some(history) = &self.history {
            history.opened().await;
        }
        let mut recorded = self.history.as_ref().map(|one| one.shim(&registration, &epoch));
        tracing::info!(
            namespace = registration.namespace,
            shim = registration.id,
            epoch,
            "following the events of a shim"
        );
        loop {
            let since = self.cursor(&epoch, recorded.as_ref());
            let mut events = EventFollower::new(
                registration.clone(),
                FollowOptions { since, follow: true, ..Default::default() },
            );
            self.add_shim(&registration, &epoch, events.connection_state());
            // The stream begins at the cursor, and the shim makes its lists of processes and ports
            // later, so no event between the cursor and the lists is missing. The view ignores the
            // events that the lists include.
            self.refresh_view(&registration, &epoch).await;
            let end = loop {
                match events.next().await {
                    FollowStep::Events(batch) => {
                        // Events arrive again, so the next failure is followed by the shortest
                        // pause.
                        pause = RECONNECT_PAUSES.0;
                        let is_incomplete = self.record_events(&epoch, &batch);
                        if let Some(recorded) = &mut recorded {
                            recorded.record(batch);
                        }
                        if is_incomplete {
                            self.refresh_view(&registration, &epoch).await;
                        }
                    }
                    end => break end,
                }
            };
            // A stream of events can end while its shim is still exiting. Then the shim is checked
            // again after the pause.
            if matches!(end, FollowStep::End) && !registration.is_alive() {
                self.remove_shim(&epoch, true, recorded);
                return;
            }
            if let FollowStep::Broken(Some(error)) = &end {
                tracing::info!(
                    shim = registration.id,
                    error = chain(error),
                    "the stream of a shim broke, retrying"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSES.1);
            if !registration.is_alive() {
                // The events are complete only if the shim itself has ended the stream.
                self.remove_shim(&epoch, matches!(end, FollowStep::End), recorded);
                return;
            }
        }
    }

    /// The cursor after which the events of a shim are still to be received: that of the stream's
    /// file or that of the history, the earlier one. Empty if one of them has no event.
    fn cursor(&self, epoch: &str, recorded: Option<&RecordedShim>) -> String {
        let streamed = self.lock_state().stream.cursor(epoch);
        let seq = match recorded {
            None => streamed,
            Some(recorded) => streamed.zip(recorded.cursor()).map(|(one, other)| one.min(other)),
        };
        seq.map(|seq| format!("{epoch}:{seq}")).unwrap_or_default()
    }

    /// Adds a shim to those that are followed. `connected` shows whether the stream of its events
    /// is connected.
    fn add_shim(&self, registration: &Registration, epoch: &str, connected: ConnectionState) {
        let mut state = self.lock_state();
        let seq = state.stream.cursor(epoch).unwrap_or_default();
        let Registration { namespace, id, .. } = registration.clone();
        let shim =
            FollowedShim { namespace, id, epoch: epoch.to_owned(), seq, ..Default::default() };
        state.shims.insert(epoch.to_owned(), FollowedConnection { shim, connected });
    }

    /// Asks a shim for its processes and ports, and replaces the shim's part of the view by them.
    async fn refresh_view(&self, registration: &Registration, epoch: &str) {
        let Ok(shim) = Shim::connect(registration.clone()).await else { return };
        let (processes, ports) = tokio::join!(shim.processes(""), shim.ports(""));
        // A shim that observes no container refuses the request, and has no part in the view.
        let Ok(processes) = processes else { return };
        let mut state = self.lock_state();
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

    /// Writes a shim's events to the stream's file, and applies them to the view, the metrics and
    /// the probe socket. Returns whether events are missing, so that the view has to be refreshed.
    fn record_events(&self, epoch: &str, events: &[Event]) -> bool {
        let mut state = self.lock_state();
        // The history may have asked for events that the stream's file has already.
        let streamed = state.stream.cursor(epoch).unwrap_or_default();
        let is_old = |event: &Event| (1..=streamed).contains(&event.seq);
        let events = &events[events.iter().rposition(is_old).map_or(0, |last| last + 1)..];
        if events.is_empty() {
            return false;
        }
        // The events are written before they are used: after a kill of the daemon, the shim sends
        // all events that are not in the file once more.
        state.stream.append(epoch, events);
        let mut is_incomplete = false;
        for event in events {
            self.metrics.count_event(event);
            is_incomplete |= state.view.apply_event(epoch, event);
            if self.probe.receiver_count() > 0
                && let Some(probe) = crate::client::json::ProbeObject::of(event)
            {
                // Sending fails if the last reader of the probe socket has disconnected since the
                // check.
                let _ = self.probe.send((crate::client::json::to_line(&probe) + "\n").into());
            }
        }
        let seq = state.stream.cursor(epoch).unwrap_or_default();
        if let Some(followed) = state.shims.get_mut(epoch) {
            followed.shim.seq = seq;
        }
        if let Some(newest) = events.last() {
            self.metrics.note_event_written(newest.time_ns);
        }
        is_incomplete
    }

    /// Stops following a shim that has ended, and records that, and whether its events are complete,
    /// in the stream's file and in the history.
    fn remove_shim(&self, epoch: &str, is_complete: bool, recorded: Option<RecordedShim>) {
        if let Some(recorded) = recorded {
            recorded.end(is_complete);
        }
        let mut state = self.lock_state();
        if is_complete {
            state.stream.write_shim_left(epoch);
        } else {
            state.stream.write_last_gap(epoch);
        }
        tracing::info!(epoch, "a shim has ended");
        state.view.remove_shim(epoch);
        state.shims.remove(epoch);
    }

    fn lock_state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of one page, which ends with the first row that makes it larger than [`PAGE_MIN`].
fn page<'a, P, T: Message + Clone + 'a>(
    mut rows: impl Iterator<Item = (P, &'a T)>,
) -> (Vec<T>, Option<P>) {
    let (mut page, mut size) = (Vec::new(), 0);
    for (position, row) in rows.by_ref() {
        size += row.compute_size();
        page.push(row.clone());
        if size > PAGE_MIN {
            return (page, rows.next().map(|_| position));
        }
    }
    (page, None)
}

/// Records that no daemon ran before this one: one gap for each shim that an earlier daemon
/// followed and that has ended since, and one gap for the shims that started and ended while no
/// daemon ran.
fn record_absence(stream: &mut StreamFile, runtime_dir: &Path) {
    let living = registrations(runtime_dir, None).unwrap_or_default();
    let is_alive =
        |epoch: &str| living.iter().any(|registration| shim_epoch(registration) == epoch);
    let ended: Vec<String> =
        stream.open_epochs().filter(|epoch| !is_alive(epoch)).map(str::to_owned).collect();
    ended.iter().for_each(|epoch| stream.write_last_gap(epoch));
    stream.write_last_gap("");
}

/// The epochs of the living shims that are registered in a runtime directory.
#[must_use]
pub fn living_epochs(runtime_dir: &Path) -> HashSet<String> {
    registrations(runtime_dir, None).unwrap_or_default().iter().map(shim_epoch).collect()
}

/// The epoch of a shim. If its registration has no epoch, the pid and the start of the shim are
/// used instead.
fn shim_epoch(registration: &Registration) -> String {
    let Registration { epoch, pid, start, .. } = registration;
    if epoch.is_empty() { format!("{pid}-{start}") } else { epoch.clone() }
}
