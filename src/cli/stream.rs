//! Merges the events of several shims into one stream.
//!
//! [`read_journals`] merges the journals of all shims by time, and ends when all have been read.
//! [`follow_events`] forwards new events as they arrive, also those of shims that start later,
//! until SIGTERM or SIGINT.

use std::collections::{HashMap, HashSet, VecDeque};

use futures::future::join_all;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub(super) use super::sink::{BatchSink, EventSink};
use super::{
    exit::{Exit, Failure},
    history::{self, HistoryReader},
    merged::Merged,
    output::StdoutWatch,
    print_message,
};
use crate::{
    api::{Event, Filter},
    client::{
        EventFollower, FollowOptions, FollowStep, Registration, ShimDiscovery, ShimError,
        runtime_dir,
    },
};

/// How many batches of events may wait to be printed, of all shims together. If the channel is
/// full, nothing is received from the shims; each shim then drops events by its policy and reports
/// a gap.
const CHANNEL_CAPACITY: usize = 256;

/// The filter of a subscription that selects the events `observer.gap`.
pub(super) fn gap_filter() -> Filter {
    Filter { types: vec!["observer.gap".to_owned()], ..Default::default() }
}

/// Reads the journal of one shim, or the daemon's history, for [`read_journals`].
struct JournalReader {
    source: Source,
    /// Events that were received and not yet merged.
    pending: VecDeque<Event>,
    has_started: bool,
    /// With which status reading ended; `None` while there may be more events.
    end: Option<Exit>,
}

enum Source {
    Shim(Box<EventFollower>),
    History(Box<HistoryReader>),
}

/// The result of reading the journals of shims.
pub(super) struct JournalsRead {
    /// Whether a journal could not be read completely.
    pub(super) exit: Exit,
    /// The cursor after each journal, by the address of the shim. A stream of new events continues
    /// there.
    pub(super) cursors: HashMap<String, String>,
}

/// Reads the journals of all shims to their ends, and the daemon's history if it is given, and
/// passes the events to `sink`, ordered by time and each once.
pub(super) async fn read_journals(
    sources: Vec<(Registration, FollowOptions)>,
    past: Option<HistoryReader>,
    is_quiet: bool,
    sink: &mut impl EventSink,
) -> Result<JournalsRead, Failure> {
    let mut once = past.as_ref().map(|_| Once::new(sources.iter().map(|(one, _)| one)));
    let shims = sources.into_iter().map(|(registration, wanted)| {
        Source::Shim(Box::new(EventFollower::new(registration, wanted)))
    });
    let history = past.map(|past| Source::History(Box::new(past)));
    let mut readers: Vec<JournalReader> = shims
        .chain(history)
        .map(|source| JournalReader {
            source,
            pending: VecDeque::new(),
            has_started: false,
            end: None,
        })
        .collect();
    loop {
        if readers.iter().any(JournalReader::must_wait) {
            sink.flush()?;
        }
        join_all(readers.iter_mut().map(|reader| reader.receive_next(is_quiet))).await;
        // Every source that has not ended has a pending event now, so the oldest pending event is
        // the next one overall. A `hello`, and a gap of the stream itself, have the time of this
        // request and come first in their journal. They are passed on at once, or the older events
        // of the journal would wait for them.
        let time = |reader: &JournalReader| {
            let is_timed =
                |event: &&Event| event.seq != 0 || matches!(reader.source, Source::History(_));
            reader.pending.front().filter(is_timed).map(|event| event.time_ns)
        };
        let Some(reader) =
            readers.iter_mut().filter(|one| !one.pending.is_empty()).min_by_key(|one| time(one))
        else {
            break;
        };
        let event = reader.pending.pop_front();
        // The history has answered by now: each source was waited for.
        let stores_events = || {
            readers.iter().any(|reader| match &reader.source {
                Source::History(history) => history.stores_events(),
                Source::Shim(_) => false,
            })
        };
        if let Some(event) = event
            && once.as_mut().is_none_or(|once| once.is_new(&event, stores_events))
            && sink.handle_event(&event)?.is_break()
        {
            break;
        }
    }
    sink.flush()?;
    let ends = || readers.iter().filter_map(|reader| reader.end);
    // `Unreachable` outranks `Incomplete`, although its number is lower: a shim that did not answer
    // at all is worse than a broken stream.
    let exit = ends().find(|end| *end == Exit::Unreachable).or_else(|| ends().max());
    let cursor = |reader: &JournalReader| match &reader.source {
        Source::Shim(follow) => Some((follow.registration().address.clone(), follow.cursor()?)),
        Source::History(_) => None,
    };
    let cursors = readers.iter().filter_map(cursor).collect();
    Ok(JournalsRead { exit: exit.unwrap_or(Exit::Ok), cursors })
}

impl JournalReader {
    /// Whether nothing is pending, and there may be more.
    fn must_wait(&self) -> bool {
        self.pending.is_empty() && self.end.is_none()
    }

    /// Receives the next events, unless some are pending or there are no more.
    async fn receive_next(&mut self, is_quiet: bool) {
        if !self.must_wait() {
            return;
        }
        let follow = match &mut self.source {
            Source::Shim(follow) => follow,
            Source::History(history) => {
                match history.next().await {
                    Ok(Some(events)) => self.pending.extend(events),
                    Ok(None) => self.end = Some(Exit::Ok),
                    Err(error) => {
                        self.end = Some(Exit::Incomplete);
                        if !is_quiet {
                            let error = anyhow::Error::from(error);
                            print_message(&format!(
                                "the rest of the history is missing: {error:#}"
                            ));
                        }
                    }
                }
                return;
            }
        };
        match follow.next().await {
            FollowStep::Events(events) => {
                self.has_started = true;
                self.pending.extend(events);
            }
            FollowStep::End => self.end = Some(Exit::Ok),
            FollowStep::Broken(error) => {
                self.end = Some(match &error {
                    Some(error) if error.is_refused() => Exit::Usage,
                    _ if self.has_started => Exit::Incomplete,
                    _ => Exit::Unreachable,
                });
                if !is_quiet {
                    report_lost_shim(&follow.registration().id, error);
                }
            }
        }
    }
}

/// Recognizes the events that both a journal and the history have.
struct Once {
    /// The events of each shim that is read, by the shim's epoch.
    seen: HashMap<String, HashSet<u64>>,
}

impl Once {
    fn new<'a>(shims: impl Iterator<Item = &'a Registration>) -> Self {
        Self { seen: shims.map(|shim| (shim.epoch.clone(), HashSet::new())).collect() }
    }

    /// Whether an event is to be passed on. Of a journal that has rolled over, the history has the
    /// beginning, or a gap of its own, if it stores events.
    fn is_new(&mut self, event: &Event, stores_events: impl FnOnce() -> bool) -> bool {
        if event.seq == 0 {
            return !(history::is_of_journal(event) && stores_events());
        }
        // Only the history has the events of other epochs.
        self.seen.get_mut(&event.epoch).is_none_or(|seen| seen.insert(event.seq))
    }
}

/// Passes the events of all shims to `sink` until SIGTERM or SIGINT, also of shims that start
/// later. `wanted` selects the events of each shim.
pub(super) async fn follow_events(
    namespace: Option<String>,
    is_quiet: bool,
    wanted: impl Fn(&Registration) -> FollowOptions,
    sink: &mut impl EventSink,
) -> Result<Exit, Failure> {
    let read = |registration: Registration, sender| {
        let follow = EventFollower::new(registration.clone(), wanted(&registration));
        forward_events(follow, sender, is_quiet)
    };
    gather_batches(namespace, read, |end| end != Exit::Ok, &mut Merged::new(sink)).await
}

/// Runs `read` for every shim, also for shims that start later, and passes the batches that these
/// readers send to `sink`. Ends at SIGTERM or SIGINT, or when a reader ends with a status for which
/// `ends_all` returns true. Returns the highest exit status of all readers.
///
/// # Errors
///
/// [`Failure::OutputClosed`] as soon as the reader of the standard output has gone.
pub(super) async fn gather_batches<B: Send + 'static, R: Future<Output = Exit> + Send + 'static>(
    namespace: Option<String>,
    read: impl Fn(Registration, mpsc::Sender<B>) -> R,
    ends_all: impl Fn(Exit) -> bool,
    sink: &mut (impl EventSink + BatchSink<B>),
) -> Result<Exit, Failure> {
    let mut termination = TerminationSignals::new()?;
    let mut output = StdoutWatch::start();
    let mut shims = ShimDiscovery::new(runtime_dir(), namespace);
    let mut readers = JoinSet::new();
    let mut exit = Exit::Ok;
    let (sender, mut receiver) = mpsc::channel(CHANNEL_CAPACITY);
    loop {
        let due = sink.due();
        tokio::select! {
            biased;
            () = termination.received() => break,
            () = output.closed() => return Err(Failure::OutputClosed),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if sink.release(false)?.is_break() {
                    break;
                }
                sink.flush()?;
            }
            new = shims.next_new() => {
                for registration in new.map_err(Failure::of_registrations)? {
                    readers.spawn(read(registration, sender.clone()));
                }
            }
            Some(end) = readers.join_next() => {
                let end = end.unwrap_or(Exit::Failed);
                exit = exit.max(end);
                if ends_all(end) {
                    break;
                }
            }
            // The arms are polled in this order (`biased`). Batches come last, so that a constant
            // flow of them does not starve signals and new shims.
            batch = receiver.recv() => {
                let Some(batch) = batch else { break };
                if sink.handle_batch(batch)?.is_break() {
                    break;
                }
                if receiver.is_empty() {
                    sink.flush()?;
                }
            }
        }
    }
    readers.abort_all();
    // Print the batches that were received before the stream ended.
    while let Ok(batch) = receiver.try_recv() {
        if sink.handle_batch(batch)?.is_break() {
            break;
        }
    }
    let _ = sink.release(true)?;
    sink.flush()?;
    Ok(exit)
}

/// Forwards the events of one shim until the shim has ended. If the shim was killed, the command
/// continues with the other shims, and its exit status stays 0.
async fn forward_events(
    mut follow: EventFollower,
    sender: mpsc::Sender<Vec<Event>>,
    is_quiet: bool,
) -> Exit {
    loop {
        match follow.next().await {
            FollowStep::Events(events) => {
                if sender.send(events).await.is_err() {
                    return Exit::Ok;
                }
            }
            FollowStep::End => return Exit::Ok,
            FollowStep::Broken(error) => {
                let is_refused = error.as_ref().is_some_and(ShimError::is_refused);
                if !is_quiet {
                    report_lost_shim(&follow.registration().id, error);
                }
                return if is_refused { Exit::Usage } else { Exit::Ok };
            }
        }
    }
}

/// Prints a warning that the stream of events from a shim broke. `error` is `None` if no heartbeat
/// has come for too long.
fn report_lost_shim(shim: &str, error: Option<ShimError>) {
    match error {
        Some(error) => {
            print_message(&format!("lost shim {shim}: {:#}", anyhow::Error::from(error)))
        }
        None => print_message(&format!("lost shim {shim}: no heartbeat received")),
    }
}

/// Receives the signals SIGTERM and SIGINT that arrive after this value was created.
pub(super) struct TerminationSignals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl TerminationSignals {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::Other(error.into()));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// Resolves when one of the signals was received. Cancel safe.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
