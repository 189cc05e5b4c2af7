//! The threads for calls that may block: of cgroups, mounts and files.
//!
//! One thread of each [`Work`] exists from the start, so that the shim works when no thread can be
//! made, for example because the pids cgroup is full. The kinds are separate: an exit never waits
//! for a log file on a disk that hangs. If a call hangs, another thread is made for the calls
//! behind it, and ends when it is idle.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::sys::nofile;

/// Stack size of a thread in bytes, enough for path walks and formatting.
const STACK_BYTES: usize = 256 << 10;

/// How long a call may wait for a thread before another one is made.
const STALLED_AFTER: Duration = Duration::from_millis(50);

/// The longest pause between two attempts to make another thread.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Time after which an idle thread ends, unless it is the first of its kind.
const IDLE_MAX: Duration = Duration::from_millis(500);

/// The kind of a call that may block. Each kind has threads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// What must be done before an exit is reported, and signals to a whole cgroup.
    Exit,
    /// Reads of a cgroup for a client: statistics and the list of processes.
    Query,
    /// Mounts, and files of the bundle or of a client.
    File,
    /// Writes to log files.
    Log,
}

/// The call has not ended: it panicked, or there is no thread for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a call that may block did not end: it panicked, or no thread could be made for it")]
pub struct Unfinished;

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    /// The name of the threads, at most 15 bytes.
    name: &'static str,
    /// The most threads at a time.
    threads_max: usize,
    state: Mutex<State>,
    /// Notified of each new job.
    submitted: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    threads: usize,
}

// The limits are those of hanging calls. A hung disk may hold one call for each stream of a pod.
static POOLS: [Pool; 4] = [
    Pool::new("exits", 4),
    Pool::new("queries", 4),
    Pool::new("files", 32),
    Pool::new("logs", 256),
];

/// Makes the first thread of each kind.
///
/// # Errors
///
/// A thread could not be made.
pub fn start() -> io::Result<()> {
    POOLS.iter().try_for_each(|pool| pool.add_thread(&mut pool.lock()))
}

/// Runs `call` on a thread for this kind of work. Dropping the future does not end the call.
///
/// # Errors
///
/// [`Unfinished`] if the call panicked, or if there is no thread and none can be made.
pub async fn run<T: Send + 'static>(
    kind: Work,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let pool = &POOLS[kind as usize];
    let (sender, mut result) = oneshot::channel();
    let call = move || {
        // An exit must be reported although no descriptor is free.
        let _reserve = (kind == Work::Exit).then(nofile::reserve);
        call()
    };
    let job: Job = Box::new(move || drop(sender.send(call())));
    pool.submit(job).map_err(|_| Unfinished)?;
    let mut pause = STALLED_AFTER;
    loop {
        match tokio::time::timeout(pause, &mut result).await {
            Ok(result) => return result.map_err(|_| Unfinished),
            Err(_) => pool.relieve(),
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Makes a call on a thread for this kind of work, and waits neither for its result nor for its
/// end. If there is no thread and none can be made, makes the call on this thread.
pub fn detach(kind: Work, call: impl FnOnce() + Send + 'static) {
    if let Err(call) = POOLS[kind as usize].submit(Box::new(call)) {
        call();
    }
}

impl Pool {
    const fn new(name: &'static str, threads_max: usize) -> Self {
        let state = State { queue: VecDeque::new(), threads: 0 };
        Self { name, threads_max, state: Mutex::new(state), submitted: Condvar::new() }
    }

    /// Returns the job if there is no thread for it.
    fn submit(&'static self, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        // The first thread never ends, so this is the case only in the verb `delete` and in unit
        // tests, which do not call `start`.
        if state.threads == 0 && self.add_thread(&mut state).is_err() {
            return Err(job);
        }
        state.queue.push_back(job);
        self.submitted.notify_one();
        Ok(())
    }

    /// Makes another thread if a job waits for one.
    fn relieve(&'static self) {
        let mut state = self.lock();
        if !state.queue.is_empty()
            && state.threads < self.threads_max
            && let Err(error) = self.add_thread(&mut state)
        {
            tracing::debug!(%error, pool = self.name, "failed to make another thread");
        }
    }

    fn add_thread(&'static self, state: &mut State) -> io::Result<()> {
        let is_first = state.threads == 0;
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || self.serve(is_first))?;
        state.threads += 1;
        Ok(())
    }

    /// Runs jobs. Returns when there was none for [`IDLE_MAX`], unless this is the first thread.
    fn serve(&self, is_first: bool) {
        while let Some(job) = self.next(is_first) {
            // A panic drops the sender of the result, so the caller learns of it.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(pool = self.name, "a call that may block panicked");
            }
        }
    }

    fn next(&self, is_first: bool) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            let wait = if is_first { Duration::MAX } else { IDLE_MAX };
            let waited = self.submitted.wait_timeout(state, wait);
            let (changed, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = changed;
            if timeout.timed_out() && state.queue.is_empty() && !is_first {
                state.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Check that a panic ends only its own call.
    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        runtime().block_on(async {
            assert_eq!(run(Work::File, || panic!("on purpose")).await, Err::<(), _>(Unfinished));
            assert_eq!(run(Work::File, || 7).await, Ok(7));
        });
    }

    /// Check that calls that hang delay neither their own kind nor another one without limit, and
    /// that the threads that were made for them end.
    #[test]
    fn a_call_that_hangs_delays_no_other() {
        runtime().block_on(async {
            let (release, hang) = std::sync::mpsc::channel::<()>();
            let hang = std::sync::Arc::new(Mutex::new(hang));
            let mut hung = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let hang = hang.clone();
                hung.spawn(run(Work::Log, move || hang.lock().unwrap().recv().unwrap()));
            }
            tokio::task::yield_now().await;
            let begun = Instant::now();
            assert_eq!(run(Work::Exit, || 1).await, Ok(1));
            assert!(begun.elapsed() < STALLED_AFTER, "{:?}", begun.elapsed());
            assert_eq!(run(Work::Log, || 2).await, Ok(2));
            for _ in 0..hung.len() {
                release.send(()).unwrap();
            }
            assert!(hung.join_all().await.iter().all(Result::is_ok));
            let threads = || POOLS[Work::Log as usize].lock().threads;
            assert!(threads() > 1);
            while threads() > 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}
