//! The observer thread: reads the source, receives the shim's messages, appends events to the event
//! log.
//!
//! ```text
//!  wait ──► receive ──► read ──► receive ──► track ──► deferred messages ──► append ──┐
//!   ▲                                                                                 │
//!   └─────── found nothing, or 1 ms for records to collect, 4 ms in a storm ◄─────────┘
//! ```
//!
//! The order of the steps in one iteration of the loop matters:
//!
//! * A [`Cause`](super::message::Cause) must be processed before certain records: which child of
//!   the shim runs which exec. The shim sends it before it causes the records, so messages are
//!   received *after* the read and causes are processed *before* the tracking.
//! * An [`Outcome`](super::message::Outcome) is about something that has happened, such as a reaped
//!   exit. The source recorded the exit before it was reaped, so an outcome is deferred until a
//!   read that began after its arrival has found the end of the source. A
//!   [`Query`](super::message::Query) waits for the same, so that its answer includes those
//!   records.
//!
//! `docs/design/0003-the-observers-thread.md` has the reasons.

mod causes;
mod outcomes;
mod queries;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::sync::oneshot;

use super::{
    message::{Deferred, Message, Serial},
    shared::Shared,
    sources::{self, Upgrade},
};
use crate::{
    clock::realtime_offset_ns,
    model::{Backend, Body, Container, Event, Grade},
    observe::{node, pipeline::Pipeline, record::TargetId, source::SourceError, track::Emission},
};

/// The size of the thread's stack, in bytes: enough for path names and one batch of records.
const STACK_BYTES: usize = 256 << 10;

/// How many bytes less than before the processes have to need, before free memory is returned to
/// the kernel, which takes about a millisecond.
const FREED_MIN: usize = 256 << 10;

/// Starts the observer thread. It ends with [`Query::Stop`](super::message::Query::Stop), or when
/// no source works any more.
///
/// # Errors
///
/// The thread could not be made.
pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<()> {
    thread::Builder::new().name("observe".into()).stack_size(STACK_BYTES).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(&shared)));
        let why = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(crate::model::chain(&error)),
            Err(_) => Some("the observer panicked".to_owned()),
        };
        // Dropping the messages drops their reply channels, so no sender waits for an answer.
        drop(shared.inbox.close());
        shared.set_call_marker(None);
        if let Some(why) = why {
            tracing::error!(why, "containers are no longer observed");
            shared.report_failure(&why);
        }
    })?;
    Ok(())
}

fn run(shared: &Arc<Shared>) -> Result<(), SourceError> {
    let source = sources::open(shared)?;
    let shim = i32::try_from(std::process::id()).unwrap_or_default();
    let mut pipeline = Pipeline::new(source, shim).map_err(|source| SourceError::Kernel {
        action: "make the observer's epoll instance",
        source,
    })?;
    pipeline.raise_priority();
    let mut observer = Actor {
        shared: shared.clone(),
        pipeline,
        targets: HashMap::new(),
        containers: BTreeMap::new(),
        unobserved: HashMap::new(),
        deferred: VecDeque::new(),
        stop_reply: None,
        emissions: Vec::new(),
        events: Vec::new(),
        has_collected: true,
        upgrade: Upgrade::new(),
        most_process_bytes: 0,
        realtime_offset_ns: realtime_offset_ns(),
    };
    // The create request of the first container waits until the container is observed, so the sweep
    // runs after that.
    observer.pipeline.wait(observer.shared.inbox.waker());
    let mut turn = observer.run_iteration()?;
    if observer.pipeline.backend() == Backend::Bpf
        && let Err(error) = node::sweep()
    {
        tracing::warn!(
            error = crate::model::chain(&error),
            "failed to remove what dead shims left in the kernel"
        );
    }
    while observer.wait_for_records(turn) {
        turn = observer.run_iteration()?;
    }
    while observer.stop_reply.is_none() {
        observer.pipeline.wait(observer.shared.inbox.waker());
        loop {
            let turn = observer.run_iteration()?;
            if !observer.wait_for_records(turn) {
                break;
            }
        }
        observer.return_memory();
    }
    let reply = observer.stop_reply.take();
    // Dropping the source frees its slot and its targets. That must happen before the reply, after
    // which the process may end at any time.
    drop(observer);
    if let Some(reply) = reply {
        let _ = reply.send(());
    }
    Ok(())
}

/// The result of one iteration of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Iteration {
    /// There was nothing to do: no message and no record.
    Idle,
    /// Everything was processed. More records are likely after a short wait.
    Busy,
    /// The limit of one batch was reached: there are more records to read now.
    More,
}

/// The state of the observer thread.
struct Actor {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    targets: HashMap<Serial, TargetId>,
    /// Read for each event. With a few containers an ordered map is faster than a hash map.
    containers: BTreeMap<TargetId, Arc<Container>>,
    /// The containers that could not be observed. An event reports their end too.
    unobserved: HashMap<Serial, Arc<Container>>,
    /// Messages about earlier records, oldest first. Each is handled after a read of the source
    /// that began after the message arrived and reached the end of what the source had.
    deferred: VecDeque<Deferred>,
    /// The reply of [`Query::Stop`](super::message::Query::Stop); `None` until it has arrived.
    stop_reply: Option<oneshot::Sender<()>>,
    /// The pipeline's emissions and the events made of them. Both are empty between iterations and
    /// are kept for their capacity.
    emissions: Vec<Emission>,
    events: Vec<Event>,
    /// Whether the last wait for records took its whole time, and no iteration has found anything
    /// since. Only then does an iteration that finds nothing prove that no record is left; see
    /// [`Source::wait_to_collect`](crate::observe::source::Source::wait_to_collect).
    has_collected: bool,
    /// When a source that is better than the one in use is tried again.
    upgrade: Upgrade,
    /// The most bytes that the known processes needed since free memory was last returned.
    most_process_bytes: usize,
    /// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, in nanoseconds. Read once in each iteration that
    /// has events.
    realtime_offset_ns: u64,
}

impl Actor {
    /// Waits so that more records collect, unless there are more to read already. Returns whether
    /// another iteration must follow at once. `false` if the last iteration found nothing after a
    /// wait that took its whole time.
    fn wait_for_records(&mut self, turn: Iteration) -> bool {
        match turn {
            Iteration::Idle if self.has_collected || self.stop_reply.is_some() => return false,
            Iteration::More => self.has_collected = false,
            Iteration::Idle | Iteration::Busy => {
                self.has_collected = self.pipeline.wait_to_collect(self.shared.inbox.waker())
            }
        }
        true
    }

    /// After a flood of processes, returns to the kernel what the allocator keeps of their memory:
    /// it returns only the end of the heap by itself.
    fn return_memory(&mut self) {
        let bytes = self.pipeline.process_bytes();
        if self.most_process_bytes < bytes + FREED_MIN {
            return;
        }
        self.most_process_bytes = bytes;
        self.emissions = Vec::new();
        self.events = Vec::new();
        self.pipeline.shrink();
        crate::sys::process::trim_heap();
    }

    /// Runs one iteration of the loop; see the module for the order of its steps.
    ///
    /// # Errors
    ///
    /// The error of the last source, if the source has ended and no other one works.
    fn run_iteration(&mut self) -> Result<Iteration, SourceError> {
        self.receive();
        let more = match self.pipeline.read() {
            Ok(more) => more,
            Err(error) => {
                let source = sources::replace(&self.shared, self.pipeline.backend(), error)?;
                self.pipeline.replace(source);
                true
            }
        };
        // A better source is tried only when something happens: an idle shim misses nothing and
        // must have no timer.
        if let Some(source) = self.upgrade.take(&self.shared, self.pipeline.backend()) {
            self.pipeline.replace(source);
        }
        // These messages arrived before the source was read above. `receive` may now add messages
        // about records that came later than that read; those stay deferred until the next
        // iteration.
        let ready_count = self.deferred.len();
        self.receive();
        let busy = self.pipeline.track();
        self.has_collected &= !busy && !more;
        self.most_process_bytes = self.most_process_bytes.max(self.pipeline.process_bytes());
        self.pipeline.report_reaped();
        self.handle_deferred(ready_count, more);
        self.pipeline.run_due_scans();
        self.pipeline.report_held_outputs();
        self.pipeline.report_overdue_calls();
        self.pipeline.report_idle();
        self.append_events();
        Ok(match (self.stop_reply.is_some(), more, busy || !self.deferred.is_empty()) {
            (true, ..) | (_, false, false) => Iteration::Idle,
            (_, true, _) => Iteration::More,
            (_, false, true) => Iteration::Busy,
        })
    }

    /// Handles the first `ready_count` deferred messages. A message about a container with records
    /// that may still be in the source stays deferred, so a container that makes records without
    /// end delays only its own messages.
    fn handle_deferred(&mut self, ready_count: usize, more: bool) {
        let (mut waiting, mut delayed) = (Vec::new(), Vec::new());
        for deferred in self.deferred.drain(..ready_count).collect::<Vec<_>>() {
            let waits = more
                && match &deferred {
                    Deferred::Outcome(outcome) => {
                        let serial = outcome.serial();
                        let id = self.targets.get(&serial);
                        // A message that stays deferred also delays later messages about the same
                        // container.
                        let waits = delayed.contains(&serial)
                            || id.is_none_or(|id| self.pipeline.may_have_more(*id));
                        delayed.extend(waits.then_some(serial));
                        waits
                    }
                    Deferred::Query(_) => true,
                };
            match deferred {
                deferred if waits => waiting.push(deferred),
                Deferred::Outcome(outcome) => self.apply_outcome(outcome),
                Deferred::Query(query) => self.answer(query),
            }
        }
        for deferred in waiting.into_iter().rev() {
            self.deferred.push_front(deferred);
        }
    }

    /// Takes the messages, processes the causes of later records, and defers the others.
    fn receive(&mut self) {
        for message in self.shared.inbox.take() {
            match message {
                Message::Cause(cause) => self.apply_cause(cause),
                Message::Deferred(deferred) => self.deferred.push_back(deferred),
            }
        }
    }

    /// Appends everything that the pipeline has emitted to the event log.
    fn append_events(&mut self) {
        let mut emissions = std::mem::take(&mut self.emissions);
        emissions.extend(self.pipeline.take_emissions());
        if !emissions.is_empty() {
            self.realtime_offset_ns = realtime_offset_ns();
        }
        for Emission { target, at_ns, grade, derived, body } in emissions.drain(..) {
            let container = target.and_then(|id| self.containers.get(&id)).cloned();
            let source = match grade {
                // The event comes from a scan of /proc, whichever source is in use.
                Grade::Snapshot => Backend::Poll,
                _ if derived => Backend::Shim,
                _ => self.pipeline.backend(),
            };
            self.push_event(container, at_ns, grade, source, body);
        }
        self.emissions = emissions;
        self.shared.event_log.append(&mut self.events);
    }

    fn push_event(
        &mut self,
        container: Option<Arc<Container>>,
        monotonic_ns: u64,
        grade: Grade,
        source: Backend,
        body: Body,
    ) {
        let realtime_ns = monotonic_ns + self.realtime_offset_ns;
        self.events.push(Event { monotonic_ns, realtime_ns, grade, source, container, body });
    }
}
