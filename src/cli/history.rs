//! The daemon's history: the events and containers that no shim has any more.
//!
//! A command asks the daemon if one answers, and does without it otherwise: the shims have what
//! lives.

use super::{connect_to_daemon, print_message};
use crate::{
    api::{
        Container, Event, Filter, HistoryContainer, HistoryContainersRequest, HistoryEventsRequest,
        event::Body,
    },
    client::{Daemon, DaemonError, HistoryEvents},
};

/// Which events of the history a command shows.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    pub(super) filters: Vec<Filter>,
    pub(super) namespace: Option<String>,
    /// The only container that is wanted; `None` for all.
    pub(super) container: Option<String>,
    /// The first and the last time, in nanoseconds since 1970; 0 for no limit.
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
}

/// Reads the events of the history, in the order of their times.
pub(super) struct HistoryReader {
    events: HistoryEvents,
    is_first: bool,
    stores_events: bool,
    is_quiet: bool,
    from_ns: u64,
}

impl HistoryReader {
    /// Asks the daemon; `None` if none answers, or if it has no history.
    pub(super) async fn open(past: &Past, is_quiet: bool) -> Option<Self> {
        let daemon = connect_to_daemon().await.ok()?;
        let request = HistoryEventsRequest {
            filters: past.filters.clone(),
            from_ns: past.from_ns,
            to_ns: past.to_ns,
            namespace: past.namespace.clone().unwrap_or_default(),
            container_id: past.container.clone().unwrap_or_default(),
            ..Default::default()
        };
        let events = daemon.history_events(&request).await.ok()?;
        Some(Self { events, is_first: true, stores_events: false, is_quiet, from_ns: past.from_ns })
    }

    /// Receives the next events; `None` after the last ones.
    ///
    /// # Errors
    ///
    /// The error of the daemon, after which the rest is missing. A user's daemon, or one of an older
    /// version, has no history, which is no error.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Event>>, DaemonError> {
        loop {
            let message = match self.events.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(error) if self.is_first && error.is_answer() => return Ok(None),
                Err(error) => return Err(error),
            };
            let state = message.state.unwrap_or_default();
            if self.is_first && !self.is_quiet {
                self.warn(&state.unavailable, state.complete_since_ns);
            }
            if self.is_first {
                self.stores_events = state.unavailable.is_empty();
            }
            self.is_first = false;
            if !message.events.is_empty() {
                return Ok(Some(message.events));
            }
        }
    }

    /// Whether the daemon has answered that it stores events. If so, the history has what a journal
    /// lacks, or a gap of its own.
    pub(super) fn stores_events(&self) -> bool {
        self.stores_events
    }

    /// Says what the history cannot have.
    fn warn(&self, unavailable: &str, complete_since_ns: u64) {
        if !unavailable.is_empty() {
            print_message(&format!("the daemon stores no events now: {unavailable}"));
        }
        // Without a time, everything that there is was asked for.
        if self.from_ns > 0 && complete_since_ns > self.from_ns {
            let since = crate::model::rfc3339(complete_since_ns);
            print_message(&format!("the history begins at {since}"));
        }
    }
}

/// Whether a gap says that the journal of a shim no longer has its first events.
pub(super) fn is_of_journal(event: &Event) -> bool {
    let Some(Body::Gap(gap)) = &event.body else { return false };
    event.seq == 0 && gap.stage == "journal"
}

/// The containers that the history knows, live and ended. Empty if no daemon answers, or if it has
/// no history.
pub(super) async fn containers(namespace: Option<&str>) -> Vec<Container> {
    let records = records(namespace).await;
    records.into_iter().filter_map(|one| one.container.into_option()).collect()
}

/// What the history knows of each run of a container. Empty if no daemon answers, or if it has no
/// history.
pub(super) async fn records(namespace: Option<&str>) -> Vec<HistoryContainer> {
    let Ok(daemon) = connect_to_daemon().await else { return Vec::new() };
    known_records(&daemon, namespace).await.unwrap_or_default()
}

async fn known_records(
    daemon: &Daemon,
    namespace: Option<&str>,
) -> Result<Vec<HistoryContainer>, DaemonError> {
    let request = HistoryContainersRequest {
        namespace: namespace.unwrap_or_default().to_owned(),
        ..Default::default()
    };
    Ok(daemon.history_containers(&request).await?.1)
}
