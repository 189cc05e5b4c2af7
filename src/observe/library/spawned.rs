//! Observes the start and the end of one child that the caller spawns.

use std::{
    collections::VecDeque,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{clock::realtime_ns, model::Category};

/// The number of events that wait for a subscriber. A further event replaces the oldest, which is
/// counted as missed.
const QUEUE_CAPACITY: usize = 1024;

/// Which categories of events are observed of a child; none by default.
///
/// It needs no thread and no kernel object: [`spawn`](Self::spawn) reports the start, and the
/// `wait` that reaps the child reports the end. A subscriber can neither delay nor fail them.
///
/// ```
/// use std::process::Command;
/// use lookout::observe::{Lifecycle, ObserverConfig};
///
/// let mut command = Command::new("sh");
/// let (mut child, subscriber) =
///     ObserverConfig::lifecycle().spawn(command.args(["-c", "exit 3"]))?;
/// let subscriber = subscriber.expect("lifecycle is observed");
/// child.wait()?;
/// let events: Vec<Lifecycle> = subscriber.drain().into_iter().map(|event| event.what).collect();
/// assert_eq!(events, [Lifecycle::Started, Lifecycle::Exited { code: 3 }]);
///
/// // Off by default: no queue, no subscriber, nothing allocated.
/// let (mut child, subscriber) = ObserverConfig::default().spawn(&mut Command::new("true"))?;
/// assert!(subscriber.is_none());
/// child.wait()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObserverConfig {
    /// One bit for each category, at its index in [`Category::ALL`].
    categories: u8,
}

impl ObserverConfig {
    /// Observes the start and the end of a child.
    #[must_use]
    pub fn lifecycle() -> Self {
        Self::default().with_categories([Category::Lifecycle])
    }

    /// Adds categories. A category that cannot be observed of a spawned child gives no events;
    /// [`node::probe`](crate::observe::node::probe) reports that in advance.
    #[must_use]
    pub fn with_categories(mut self, categories: impl IntoIterator<Item = Category>) -> Self {
        for category in categories {
            self.categories |= bit(category);
        }
        self
    }

    /// Whether a category is observed.
    #[must_use]
    pub fn observes(self, category: Category) -> bool {
        self.categories & bit(category) != 0
    }

    /// Spawns the child. The subscriber is `None` if [`Category::Lifecycle`] is not observed.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`].
    pub fn spawn(
        self,
        command: &mut Command,
    ) -> io::Result<(ObservedChild, Option<ObserverSubscriber>)> {
        // Nothing is allocated for a child that is not observed.
        let queue = self.observes(Category::Lifecycle).then(|| Arc::new(Queue::default()));
        #[expect(
            clippy::disallowed_methods,
            reason = "the child belongs to the caller, who waits for it"
        )]
        let child = command.spawn()?;
        if let Some(queue) = &queue {
            queue.push(child.id(), Lifecycle::Started);
        }
        let subscriber = queue.clone().map(|queue| ObserverSubscriber { queue });
        Ok((ObservedChild { child, queue }, subscriber))
    }
}

fn bit(category: Category) -> u8 {
    let index = Category::ALL.iter().position(|other| *other == category).unwrap_or_default();
    1 << index
}

/// A change in the life of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifecycle {
    /// The child was spawned and runs.
    Started,
    /// The child has exited and was reaped.
    Exited {
        /// The exit code, 0–255, or the negative number of the signal that ended it.
        code: i32,
    },
}

/// One event of an observed child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// Whether the child started or ended.
    pub what: Lifecycle,
    /// The child's pid, as the host counts it.
    pub pid: u32,
    /// `CLOCK_REALTIME` in milliseconds since 1970.
    pub timestamp_ms: u64,
}

/// An observed child. Like a [`Child`], it is neither killed nor waited for when it is dropped.
#[derive(Debug)]
pub struct ObservedChild {
    child: Child,
    /// `None` if nothing is observed, or after the end was reported.
    queue: Option<Arc<Queue>>,
}

impl ObservedChild {
    /// The pid of the child.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its streams and for `kill`. Its own `wait` would not report the end.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the child's end and reports it.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.report_end(status);
        Ok(status)
    }

    /// Checks whether the child has ended, and reports it if so. Returns `None` if it still runs.
    ///
    /// # Errors
    ///
    /// Those of [`Child::try_wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if let Some(status) = status {
            self.report_end(status);
        }
        Ok(status)
    }

    fn report_end(&mut self, status: ExitStatus) {
        // The queue is taken, so that the end is reported once: `wait` and `try_wait` return the
        // same status again.
        let Some(queue) = self.queue.take() else { return };
        // wait(2) without WUNTRACED returns ended children only, so either the code or the signal
        // is set.
        let code = status.code().or(status.signal().map(|signal| -signal)).unwrap_or_default();
        queue.push(self.child.id(), Lifecycle::Exited { code });
    }
}

impl Drop for ObservedChild {
    fn drop(&mut self) {
        // Without a wait the end is never reported, so a waiting subscriber has to be woken here.
        if let Some(queue) = &self.queue {
            queue.close();
        }
    }
}

/// Receives the events of one child. Dropping it never affects the spawn or the wait.
#[derive(Debug)]
pub struct ObserverSubscriber {
    queue: Arc<Queue>,
}

impl ObserverSubscriber {
    /// Waits for the next event. Returns `None` if there is none `within` that time, or if there
    /// will be no more.
    #[must_use]
    pub fn recv(&self, within: Duration) -> Option<LifecycleEvent> {
        let waits = |state: &mut State| state.events.is_empty() && !state.closed;
        let waited = self.queue.more.wait_timeout_while(self.queue.lock(), within, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.events.pop_front()
    }

    /// Takes the next event; `None` if there is none yet.
    #[must_use]
    pub fn try_recv(&self) -> Option<LifecycleEvent> {
        self.queue.lock().events.pop_front()
    }

    /// Takes all events that have been reported and not been taken.
    #[must_use]
    pub fn drain(&self) -> Vec<LifecycleEvent> {
        self.queue.lock().events.drain(..).collect()
    }

    /// The number of events that were lost because they were not taken in time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.queue.lock().missed
    }
}

impl Drop for ObserverSubscriber {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<LifecycleEvent>,
    missed: u64,
    /// No further event will be pushed: the child or the subscriber was dropped, or the end was
    /// reported.
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each of its changes, so a poisoned lock stays in use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, pid: u32, what: Lifecycle) {
        let timestamp_ms = realtime_ns() / 1_000_000;
        let mut state = self.lock();
        // The subscriber was dropped: no event would ever be taken.
        if state.closed {
            return;
        }
        if state.events.len() == QUEUE_CAPACITY {
            // The newest events are kept, because the end of the child is the last one.
            state.events.pop_front();
            state.missed += 1;
        }
        state.events.push_back(LifecycleEvent { what, pid, timestamp_ms });
        state.closed = matches!(what, Lifecycle::Exited { .. });
        self.more.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }
}

#[cfg(test)]
mod tests;
