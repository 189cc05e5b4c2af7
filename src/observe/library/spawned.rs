//! The start and the end of one child that the caller spawns itself.
//!
//! ```
//! use std::process::Command;
//! use lookout::observe::{Lifecycle, ObserverConfig};
//!
//! let (mut child, subscriber) = ObserverConfig::lifecycle().spawn(Command::new("sh").args(["-c", "exit 3"]))?;
//! let subscriber = subscriber.expect("lifecycle is observed");
//! child.wait()?;
//! let told: Vec<Lifecycle> = subscriber.drain().into_iter().map(|event| event.what).collect();
//! assert_eq!(told, [Lifecycle::Started, Lifecycle::Exited { code: 3 }]);
//!
//! // Off by default: no queue, no subscriber, nothing allocated.
//! let (mut child, subscriber) = ObserverConfig::default().spawn(&mut Command::new("true"))?;
//! assert!(subscriber.is_none());
//! child.wait()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! No thread and no kernel object: the start is told by the spawn and the end by whoever reaps.
//! Both go on whatever the subscriber does.

use std::{
    collections::VecDeque,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{clock::realtime_ns, model::Category};

/// How many events wait for a subscriber; the oldest is lost to the next one and counted.
const WAITING: usize = 1024;

/// What is to be observed: nothing, unless something is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObserverConfig {
    /// One bit a category, by its place in [`Category::ALL`].
    categories: u8,
}

impl ObserverConfig {
    /// Starts and ends.
    #[must_use]
    pub fn lifecycle() -> Self {
        Self::default().with_categories([Category::Lifecycle])
    }

    /// These too. One that a spawned child cannot be observed for gives no events: see
    /// [`negotiate`](super::capability::negotiate), which says so before.
    #[must_use]
    pub fn with_categories(mut self, categories: impl IntoIterator<Item = Category>) -> Self {
        for category in categories {
            self.categories |= bit(category);
        }
        self
    }

    /// Whether this category is to be observed.
    #[must_use]
    pub fn observes(self, category: Category) -> bool {
        self.categories & bit(category) != 0
    }

    /// Spawns the child; with a subscriber where [`Category::Lifecycle`] is observed.
    ///
    /// # Errors
    ///
    /// What [`Command::spawn`] answers.
    pub fn spawn(
        self,
        command: &mut Command,
    ) -> io::Result<(ObservedChild, Option<ObserverSubscriber>)> {
        let queue = self.observes(Category::Lifecycle).then(|| Arc::new(Queue::default()));
        #[expect(
            clippy::disallowed_methods,
            reason = "the child is the caller's, who waits for it"
        )]
        let child = command.spawn()?;
        if let Some(queue) = &queue {
            queue.tell(child.id(), Lifecycle::Started);
        }
        let subscriber = queue.clone().map(|queue| ObserverSubscriber { queue });
        Ok((ObservedChild { child, queue }, subscriber))
    }
}

fn bit(category: Category) -> u8 {
    let place = Category::ALL.iter().position(|other| *other == category).unwrap_or_default();
    1 << place
}

/// What happened to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifecycle {
    /// It was spawned.
    Started,
    /// It was reaped.
    Exited {
        /// 0–255 as it exited, or the signal that ended it as a negative number.
        code: i32,
    },
}

/// One event of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// What happened.
    pub what: Lifecycle,
    /// The child's pid.
    pub pid: u32,
    /// Milliseconds since 1970.
    pub timestamp_ms: u64,
}

/// A child whose life is told. As [`Child`], it is not waited for when it is dropped.
#[derive(Debug)]
pub struct ObservedChild {
    child: Child,
    /// Until the end is told.
    queue: Option<Arc<Queue>>,
}

impl ObservedChild {
    /// Its pid.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's streams, and how to kill it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end and tells it.
    ///
    /// # Errors
    ///
    /// What [`Child::wait`] answers.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended(status);
        Ok(status)
    }

    /// Looks whether it has ended, and tells it if so.
    ///
    /// # Errors
    ///
    /// What [`Child::try_wait`] answers.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if let Some(status) = status {
            self.ended(status);
        }
        Ok(status)
    }

    fn ended(&mut self, status: ExitStatus) {
        let Some(queue) = self.queue.take() else { return };
        let code = status.code().or(status.signal().map(|signal| -signal)).unwrap_or_default();
        queue.tell(self.child.id(), Lifecycle::Exited { code });
    }
}

impl Drop for ObservedChild {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.end();
        }
    }
}

/// Takes a child's events. Dropping it never blocks or breaks a spawn or a wait.
#[derive(Debug)]
pub struct ObserverSubscriber {
    queue: Arc<Queue>,
}

impl ObserverSubscriber {
    /// Waits for the next event, at most so long; `None` when there is none by then, or when there
    /// will be none.
    #[must_use]
    pub fn recv(&self, within: Duration) -> Option<LifecycleEvent> {
        let waits = |state: &mut State| state.events.is_empty() && !state.ended;
        let waited = self.queue.more.wait_timeout_while(self.queue.lock(), within, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.events.pop_front()
    }

    /// The next event, if it is there.
    #[must_use]
    pub fn try_recv(&self) -> Option<LifecycleEvent> {
        self.queue.lock().events.pop_front()
    }

    /// All that is there.
    #[must_use]
    pub fn drain(&self) -> Vec<LifecycleEvent> {
        self.queue.lock().events.drain(..).collect()
    }

    /// How many events were lost because nobody took them in time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.queue.lock().missed
    }
}

impl Drop for ObserverSubscriber {
    fn drop(&mut self) {
        self.queue.end();
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
    /// One of the two ends is gone, or all is told.
    ended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, pid: u32, what: Lifecycle) {
        let timestamp_ms = realtime_ns() / 1_000_000;
        let mut state = self.lock();
        if state.ended {
            return;
        }
        if state.events.len() == WAITING {
            state.events.pop_front();
            state.missed += 1;
        }
        state.events.push_back(LifecycleEvent { what, pid, timestamp_ms });
        state.ended = matches!(what, Lifecycle::Exited { .. });
        self.more.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.more.notify_all();
    }
}

#[cfg(test)]
mod tests;
