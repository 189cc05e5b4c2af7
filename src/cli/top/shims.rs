//! Follows the shims of the node: their lists of processes and ports, and the events after these.

use std::time::Duration;

use tokio::{sync::mpsc::Sender, task::JoinSet, time::sleep};

use super::data::{Change, Note};
use crate::{
    api::{Filter, event::Body},
    cli::{exit::Failure, stream::gap_filter},
    client::{
        EventFollower, FollowOptions, FollowStep, Registration, Shim, ShimDiscovery, ShimError,
        runtime_dir,
    },
    model::chain,
};

/// The pause before the directory of registrations is read again after an error.
const DIRECTORY_RETRY_PAUSE: Duration = Duration::from_secs(2);
/// The first and the longest pause before a shim is asked again.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Follows the shims of a containerd namespace, or of all, also those that start later. Never
/// returns. `container` is the id of the only container that is shown, or empty.
pub(super) async fn follow(namespace: Option<String>, container: String, changes: Sender<Change>) {
    let mut shims = ShimDiscovery::new(runtime_dir(), namespace);
    // Ends with this future, as the followers in it do.
    let mut followers = JoinSet::new();
    loop {
        tokio::select! {
            new = shims.next_new() => match new {
                Ok(new) => {
                    let _ = changes.send(Change::Note(Note::Shims, None)).await;
                    for registration in new {
                        let (container, changes) = (container.clone(), changes.clone());
                        let follower = Follower { registration, container, changes };
                        followers.spawn(follower.run());
                    }
                }
                Err(error) => {
                    let text = Failure::of_registrations(error).to_string();
                    let _ = changes.send(Change::Note(Note::Shims, Some(text))).await;
                    sleep(DIRECTORY_RETRY_PAUSE).await;
                }
            },
            Some(_) = followers.join_next() => {}
        }
    }
}

/// Follows one shim.
struct Follower {
    registration: Registration,
    container: String,
    changes: Sender<Change>,
}

impl Follower {
    /// Returns when the shim has ended.
    async fn run(self) {
        let mut pause = RECONNECT_PAUSES.0;
        loop {
            let mut is_new = true;
            let result = self.list().await;
            let mut note = result.as_ref().err().map(|error| chain(error));
            if let Ok(since) = result {
                let mut events = self.events(since);
                note = loop {
                    match events.next().await {
                        FollowStep::Events(events) => {
                            if std::mem::take(&mut is_new) {
                                self.note(None).await;
                            }
                            pause = RECONNECT_PAUSES.0;
                            let is_gap = |body: &Option<Body>| matches!(body, Some(Body::Gap(_)));
                            let has_gap = events.iter().any(|event| is_gap(&event.body));
                            self.send(Change::Events { shim: self.name(), events }).await;
                            if has_gap {
                                let _ = self.list().await;
                            }
                        }
                        FollowStep::End | FollowStep::Broken(None) => break None,
                        FollowStep::Broken(Some(error)) => break Some(chain(&error)),
                    }
                };
            }
            if !self.registration.is_alive() {
                self.note(None).await;
                self.send(Change::ShimEnded { shim: self.name() }).await;
                return;
            }
            self.note(note.map(|note| format!("{note}, retrying"))).await;
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSES.1);
        }
    }

    /// Asks for all processes and ports, and returns the cursor of the lists; `None` if the shim
    /// observes nothing, or not the container that is shown. That may change.
    async fn list(&self) -> Result<Option<String>, ShimError> {
        let shim = Shim::connect(self.registration.clone()).await?;
        let (processes, ports) =
            tokio::join!(shim.processes(&self.container), shim.ports(&self.container));
        let processes = match processes {
            Ok(processes) => processes,
            Err(error) if error.is_answer() => return Ok(None),
            Err(error) => return Err(error),
        };
        // A shim that does not greet has no names; then containers are shown by their ids.
        let names = shim.hello().await.map(|hello| hello.containers).unwrap_or_default();
        let cursor = format!("{}:{}", processes.epoch, processes.seq);
        let shim = self.name();
        let (processes, ports) = (Box::new(processes), ports.ok().map(Box::new));
        self.send(Change::Listed { shim, processes, ports, names }).await;
        Ok(Some(cursor))
    }

    fn events(&self, since: Option<String>) -> EventFollower {
        let filters = match self.container.as_str() {
            "" => Vec::new(),
            id => {
                vec![Filter { container_id: id.to_owned(), ..Default::default() }, gap_filter()]
            }
        };
        let from_now = since.is_none();
        let since = since.unwrap_or_default();
        let wanted = FollowOptions { filters, since, from_now, follow: true };
        EventFollower::new(self.registration.clone(), wanted)
    }

    /// What distinguishes the shim from others, and from one with its id before.
    fn name(&self) -> String {
        let Registration { namespace, id, pid, start, .. } = &self.registration;
        format!("{namespace}/{id}/{pid}-{start}")
    }

    async fn note(&self, text: Option<String>) {
        self.send(Change::Note(Note::Shim(self.name()), text)).await;
    }

    async fn send(&self, change: Change) {
        // Fails if the command ends.
        let _ = self.changes.send(change).await;
    }
}
