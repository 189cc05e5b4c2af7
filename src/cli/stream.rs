//! Events of many shims as one stream.

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
};
use crate::{
    api::{Event, Filter, event::Body},
    client::{Follow, Registration, ShimError, Shims, Step, Wanted, runtime_dir},
};

/// Batches that wait to be printed, of all shims together. When it is full, shims wait to be read,
/// and each drops by its own policy and tells a gap.
const WAITING: usize = 256;

/// What takes the events. `Break` ends the stream.
pub(super) trait Sink {
    /// One event of a shim.
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>>;

    /// Nothing more comes at once.
    fn flush(&mut self) -> io::Result<()>;
}

/// What takes what one shim tells at once. `Break` ends the stream.
pub(super) trait Take<B> {
    /// One batch.
    fn take(&mut self, batch: B) -> io::Result<ControlFlow<()>>;
}

impl<S: Sink> Take<Vec<Event>> for S {
    fn take(&mut self, batch: Vec<Event>) -> io::Result<ControlFlow<()>> {
        for event in batch {
            if self.event(&event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The container that was asked for, if one was, and whether something of it is missing.
pub(super) struct Asked {
    pub(super) container: Option<String>,
    pub(super) has_gap: bool,
}

impl Asked {
    pub(super) fn new(container: Option<String>) -> Self {
        Self { container, has_gap: false }
    }

    /// Whether an event is its own: gaps come of every container of a shim. Notes them.
    pub(super) fn takes(&mut self, event: &Event) -> bool {
        let of = event.container.as_ref().map(|container| container.id.as_str());
        let is_anothers =
            self.container.as_deref().zip(of).is_some_and(|(wanted, of)| wanted != of);
        self.has_gap |= !is_anothers && matches!(event.body, Some(Body::Gap(_)));
        !is_anothers
    }
}

/// The filter of gaps.
pub(super) fn gaps() -> Filter {
    Filter { types: vec!["observer.gap".to_owned()], ..Default::default() }
}

/// One shim's, while journals are read.
struct Source {
    follow: Follow,
    waiting: VecDeque<Event>,
    has_begun: bool,
    end: Option<Exit>,
}

/// Gives what the journals have, by time. Tells in what way it was not all.
pub(super) async fn read(
    sources: Vec<(Registration, Wanted)>,
    is_quiet: bool,
    sink: &mut impl Sink,
) -> Result<Exit, Failure> {
    let mut sources: Vec<Source> = sources
        .into_iter()
        .map(|(registration, wanted)| Source {
            follow: Follow::new(registration, wanted),
            waiting: VecDeque::new(),
            has_begun: false,
            end: None,
        })
        .collect();
    loop {
        join_all(sources.iter_mut().map(|source| source.fill(is_quiet))).await;
        // Every source that goes on has one: the oldest of them is the oldest there is.
        let time = |source: &Source| source.waiting.front().map(|event| event.time_ns);
        let Some(source) =
            sources.iter_mut().filter(|one| !one.waiting.is_empty()).min_by_key(|one| time(one))
        else {
            break;
        };
        // Till it may be another's turn; the common case is one shim.
        if let Some(event) = source.waiting.pop_front()
            && sink.event(&event)?.is_break()
        {
            break;
        }
    }
    sink.flush()?;
    let ends = || sources.iter().filter_map(|source| source.end);
    Ok(ends().find(|end| *end == Exit::Unreachable).or_else(|| ends().max()).unwrap_or(Exit::Ok))
}

impl Source {
    async fn fill(&mut self, is_quiet: bool) {
        if !self.waiting.is_empty() || self.end.is_some() {
            return;
        }
        match self.follow.next().await {
            Step::Events(events) => {
                self.has_begun = true;
                self.waiting.extend(events);
            }
            Step::End => self.end = Some(Exit::Ok),
            Step::Broken(error) => {
                self.end = Some(match &error {
                    Some(error) if error.is_refused() => Exit::Usage,
                    _ if self.has_begun => Exit::Incomplete,
                    _ => Exit::Unreachable,
                });
                if !is_quiet {
                    broken(&self.follow.registration().id, error);
                }
            }
        }
    }
}

/// Gives what the shims tell from now on until TERM or INT, also those that come later. `wanted`
/// says what of each.
pub(super) async fn follow(
    namespace: Option<String>,
    is_quiet: bool,
    wanted: impl Fn(&Registration) -> Wanted,
    sink: &mut impl Sink,
) -> Result<Exit, Failure> {
    let read = |registration: Registration, sender| {
        let follow = Follow::new(registration.clone(), wanted(&registration));
        pump(follow, sender, is_quiet)
    };
    gather(namespace, read, |end| end != Exit::Ok, sink).await
}

/// Gives what `read` sends of each shim until TERM or INT, also of those that come later, or until
/// one ends in a way that `ends_all`. Answers with the worst end.
pub(super) async fn gather<B: Send + 'static, R: Future<Output = Exit> + Send + 'static>(
    namespace: Option<String>,
    read: impl Fn(Registration, mpsc::Sender<B>) -> R,
    ends_all: impl Fn(Exit) -> bool,
    sink: &mut (impl Sink + Take<B>),
) -> Result<Exit, Failure> {
    let mut ending = Ending::new()?;
    let mut shims = Shims::new(runtime_dir(), namespace);
    let mut readers = JoinSet::new();
    let mut exit = Exit::Ok;
    let (sender, mut receiver) = mpsc::channel(WAITING);
    loop {
        tokio::select! {
            biased;
            () = ending.asked() => break,
            new = shims.next() => {
                let new = new.map_err(|error| Failure::Unreachable(anyhow::Error::new(error).context("failed to look for shims")))?;
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
            // The last: shims that never rest must not hide the others.
            batch = receiver.recv() => {
                let Some(batch) = batch else { break };
                if sink.take(batch)?.is_break() {
                    break;
                }
                if receiver.is_empty() {
                    sink.flush()?;
                }
            }
        }
    }
    readers.abort_all();
    // What has come is printed.
    while let Ok(batch) = receiver.try_recv() {
        if sink.take(batch)?.is_break() {
            break;
        }
    }
    sink.flush()?;
    Ok(exit)
}

/// One shim's events until it has gone. That it was killed ends nothing: other shims go on.
async fn pump(mut follow: Follow, sender: mpsc::Sender<Vec<Event>>, is_quiet: bool) -> Exit {
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
                    broken(&follow.registration().id, error);
                }
                return if is_refused { Exit::Usage } else { Exit::Ok };
            }
        }
    }
}

pub(super) fn broken(shim: &str, error: Option<ShimError>) {
    match error {
        Some(error) => note(&format!("lost shim {shim}: {:#}", anyhow::Error::from(error))),
        None => note(&format!("lost shim {shim}: it went silent")),
    }
}

/// TERM and INT, from when it was made on.
pub(super) struct Ending {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Ending {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::Other(error.into()));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// Resolves when one came. Can be dropped without loss.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
