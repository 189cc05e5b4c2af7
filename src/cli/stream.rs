//! Merging of several shims' events into one stream.
//!
//! [`read`] merges journals by time and ends. [`follow`] forwards new events as they arrive, also
//! of shims that start later, until SIGTERM or SIGINT.

use std::{collections::VecDeque, io, ops::ControlFlow};

use futures::future::join_all;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    exit::{Exit, Failure},
    note,
    output::ReaderGone,
};
use crate::{
    api::{Event, Filter, event::Body},
    client::{Follow, Registration, ShimError, Shims, Step, Wanted, runtime_dir},
};

/// How many received batches may wait to be printed, of all shims together. If the channel is full,
/// the readers stop receiving; each shim then drops events by its policy and reports a gap.
const CHANNEL_CAPACITY: usize = 256;

/// A consumer of events. `Break` ends the stream.
pub(super) trait Sink {
    /// Handles one event.
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>>;

    /// Called when no further event is available immediately.
    fn flush(&mut self) -> io::Result<()>;
}

/// A consumer of the batches that one shim sends. `Break` ends the stream.
pub(super) trait BatchSink<B> {
    /// Handles one batch.
    fn batch(&mut self, batch: B) -> io::Result<ControlFlow<()>>;
}

impl<S: Sink> BatchSink<Vec<Event>> for S {
    fn batch(&mut self, batch: Vec<Event>) -> io::Result<ControlFlow<()>> {
        for event in batch {
            if self.event(&event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The container that a command is limited to, if any, and whether a gap concerns it.
pub(super) struct Scope {
    pub(super) container: Option<String>,
    pub(super) has_gap: bool,
}

impl Scope {
    pub(super) fn new(container: Option<String>) -> Self {
        Self { container, has_gap: false }
    }

    /// Whether an event belongs to the scope. Needed because a shim sends the gaps of all its
    /// containers. Also records whether there was a gap in the scope.
    pub(super) fn includes(&mut self, event: &Event) -> bool {
        let of = event.container.as_ref().map(|container| container.id.as_str());
        // A gap without a container may concern any container, so it belongs to every scope.
        let is_foreign = self.container.as_deref().zip(of).is_some_and(|(wanted, of)| wanted != of);
        self.has_gap |= !is_foreign && matches!(event.body, Some(Body::Gap(_)));
        !is_foreign
    }
}

/// The filter that selects gaps.
pub(super) fn gaps() -> Filter {
    Filter { types: vec!["observer.gap".to_owned()], ..Default::default() }
}

/// Reads the journal of one shim, for [`read`].
struct JournalReader {
    follow: Follow,
    /// Events that were received and not yet merged.
    pending: VecDeque<Event>,
    has_started: bool,
    /// How the journal ended; `None` while there may be more events.
    end: Option<Exit>,
}

/// Reads all journals to their ends and passes the events to `sink`, ordered by time. The result
/// shows whether a journal could not be read completely.
pub(super) async fn read(
    sources: Vec<(Registration, Wanted)>,
    is_quiet: bool,
    sink: &mut impl Sink,
) -> Result<Exit, Failure> {
    let mut readers: Vec<JournalReader> = sources
        .into_iter()
        .map(|(registration, wanted)| JournalReader {
            follow: Follow::new(registration, wanted),
            pending: VecDeque::new(),
            has_started: false,
            end: None,
        })
        .collect();
    loop {
        join_all(readers.iter_mut().map(|reader| reader.fill(is_quiet))).await;
        // Every journal that has not ended has a pending event now, so the oldest pending event is
        // the next one overall. A hello or a gap of the stream itself has the time of this request;
        // it precedes all events of its journal, which must not wait for it.
        let time = |reader: &JournalReader| {
            reader.pending.front().filter(|event| event.seq != 0).map(|event| event.time_ns)
        };
        let Some(reader) =
            readers.iter_mut().filter(|one| !one.pending.is_empty()).min_by_key(|one| time(one))
        else {
            break;
        };
        if let Some(event) = reader.pending.pop_front()
            && sink.event(&event)?.is_break()
        {
            break;
        }
    }
    sink.flush()?;
    let ends = || readers.iter().filter_map(|reader| reader.end);
    // `Unreachable` outranks `Incomplete`, although its number is lower: a shim that did not answer
    // at all is worse than a broken stream.
    Ok(ends().find(|end| *end == Exit::Unreachable).or_else(|| ends().max()).unwrap_or(Exit::Ok))
}

impl JournalReader {
    /// Receives the next events, unless some are pending or the journal has ended.
    async fn fill(&mut self, is_quiet: bool) {
        if !self.pending.is_empty() || self.end.is_some() {
            return;
        }
        match self.follow.next().await {
            Step::Events(events) => {
                self.has_started = true;
                self.pending.extend(events);
            }
            Step::End => self.end = Some(Exit::Ok),
            Step::Broken(error) => {
                self.end = Some(match &error {
                    Some(error) if error.is_refused() => Exit::Usage,
                    _ if self.has_started => Exit::Incomplete,
                    _ => Exit::Unreachable,
                });
                if !is_quiet {
                    report_lost_shim(&self.follow.registration().id, error);
                }
            }
        }
    }
}

/// Passes the events of all shims to `sink` until SIGTERM or SIGINT, also of shims that start
/// later. `wanted` selects the events of each shim.
pub(super) async fn follow(
    namespace: Option<String>,
    is_quiet: bool,
    wanted: impl Fn(&Registration) -> Wanted,
    sink: &mut impl Sink,
) -> Result<Exit, Failure> {
    let read = |registration: Registration, sender| {
        let follow = Follow::new(registration.clone(), wanted(&registration));
        forward(follow, sender, is_quiet)
    };
    gather(namespace, read, |end| end != Exit::Ok, sink).await
}

/// Runs `read` for every shim, also for shims that start later, and passes the batches that the
/// readers send to `sink`. Ends at SIGTERM or SIGINT, or when a reader ends with a status for which
/// `ends_all` returns true. Returns the most severe status of all readers.
///
/// # Errors
///
/// [`Failure::OutputClosed`] as soon as the reader of the standard output has gone.
pub(super) async fn gather<B: Send + 'static, R: Future<Output = Exit> + Send + 'static>(
    namespace: Option<String>,
    read: impl Fn(Registration, mpsc::Sender<B>) -> R,
    ends_all: impl Fn(Exit) -> bool,
    sink: &mut (impl Sink + BatchSink<B>),
) -> Result<Exit, Failure> {
    let mut termination = Termination::new()?;
    let mut output = ReaderGone::watch();
    let mut shims = Shims::new(runtime_dir(), namespace);
    let mut readers = JoinSet::new();
    let mut exit = Exit::Ok;
    let (sender, mut receiver) = mpsc::channel(CHANNEL_CAPACITY);
    loop {
        tokio::select! {
            biased;
            () = termination.requested() => break,
            () = output.gone() => return Err(Failure::OutputClosed),
            new = shims.next() => {
                let new = new.map_err(|error| {
                    let error = anyhow::Error::new(error).context("failed to scan for shims");
                    Failure::Unreachable(error)
                })?;
                for registration in new {
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
            // Last, because the order is biased: a constant flow of batches must not starve signals
            // and new shims.
            batch = receiver.recv() => {
                let Some(batch) = batch else { break };
                if sink.batch(batch)?.is_break() {
                    break;
                }
                if receiver.is_empty() {
                    sink.flush()?;
                }
            }
        }
    }
    readers.abort_all();
    // Print what was received before the end.
    while let Ok(batch) = receiver.try_recv() {
        if sink.batch(batch)?.is_break() {
            break;
        }
    }
    sink.flush()?;
    Ok(exit)
}

/// Forwards the events of one shim until the shim is gone. A shim that was killed is no error of
/// the command, which continues with the other shims.
async fn forward(mut follow: Follow, sender: mpsc::Sender<Vec<Event>>, is_quiet: bool) -> Exit {
    loop {
        match follow.next().await {
            Step::Events(events) => {
                if sender.send(events).await.is_err() {
                    return Exit::Ok;
                }
            }
            Step::End => return Exit::Ok,
            Step::Broken(error) => {
                let is_refused = error.as_ref().is_some_and(ShimError::is_refused);
                if !is_quiet {
                    report_lost_shim(&follow.registration().id, error);
                }
                return if is_refused { Exit::Usage } else { Exit::Ok };
            }
        }
    }
}

/// Prints a warning that the stream of a shim broke. `error` is `None` if heartbeats are missing.
fn report_lost_shim(shim: &str, error: Option<ShimError>) {
    match error {
        Some(error) => note(&format!("lost shim {shim}: {:#}", anyhow::Error::from(error))),
        None => note(&format!("lost shim {shim}: no heartbeat received")),
    }
}

/// Receives the signals SIGTERM and SIGINT that arrive after this value was created.
pub(super) struct Termination {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Termination {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::Other(error.into()));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// Resolves when one of the signals was received. Cancel safe.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
