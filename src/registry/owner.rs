//! The owner of the registry: the one thread that may change the entries, their file and their
//! pidfds.
//!
//! ```text
//!  service ── job ──►  run it: plan, append, apply ─┐
//!                      … all waiting jobs           ├─► one sync ──► all their answers
//!  kernel ── end ──►   append, apply                ┘
//! ```
//!
//! A job is answered after its changes are on disk; all waiting jobs share one sync. The thread has
//! no timer while no registered process is alive.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::EpollTimeout,
    resource::{Resource, getrlimit},
};
use tokio::sync::oneshot;

use super::{
    Change, NewEntry, Refusal, Registry,
    entry::{Entry, ProcessEnd},
    liveness::{Liveness, NoticedEnd, is_reused, open_pidfd},
    store::{OpenedStore, Store, StoreError},
};
use crate::{clock::realtime_ns, model::chain, platform::Waker};

/// The most jobs that may wait for the registry's thread. A further job is refused as busy, and its
/// client may try again.
const WAITING_JOBS_MAX: usize = 1024;

type Reply = Box<dyn FnOnce(Result<(), Refusal>) + Send>;
type Job = Box<dyn FnOnce(&mut RegistryOwner) -> Reply + Send>;

/// Sends jobs to the registry's thread, which runs them one after the other.
#[derive(Debug, Clone)]
pub struct RegistryHandle {
    /// The channel to the thread; `None` only while this handle is being dropped.
    jobs: Option<SyncSender<Job>>,
    waker: Arc<Waker>,
    /// How many jobs were sent to the thread and have not begun to run.
    waiting_jobs: Arc<AtomicUsize>,
}

/// The registry's thread. It ends when all handles are dropped.
#[derive(Debug)]
pub struct RegistryThread {
    thread: JoinHandle<()>,
    /// Resolves when the thread ends, also by a panic: the thread owns the sender, which is dropped
    /// then.
    end: oneshot::Receiver<()>,
}

/// The intervals of the work that the registry's thread does without an event.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// The time between scans of the processes that are watched without a pidfd.
    pub liveness: Duration,
    /// The time between two lines in the registry's file that record that the living processes were
    /// seen alive.
    pub last_seen: Duration,
}

/// How many descriptors are kept free for connections, shims and files. If half of the limit of
/// descriptors is less than this, half of the limit is kept free.
const RESERVED_DESCRIPTORS: u64 = 512;

/// The registry with its file and its pidfds. Only the registry's thread has it.
#[derive(Debug)]
pub struct RegistryOwner {
    registry: Registry,
    store: Store,
    liveness: Liveness,
    boot: u32,
}

impl RegistryHandle {
    /// Runs `work` on the registry's thread. Resolves after the changes of `work` are on disk.
    ///
    /// # Errors
    ///
    /// The error of `work`; [`Refusal::Busy`] if `work` was not run; [`Refusal::Unsaved`] if the
    /// changes could not be synced and were taken back.
    pub async fn request<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RegistryOwner) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let waiting = self.waiting_jobs.clone();
        waiting.fetch_add(1, Ordering::Relaxed);
        let job: Job = Box::new(move |owner| {
            waiting.fetch_sub(1, Ordering::Relaxed);
            let result = work(owner);
            // Sending the answer fails if the request was dropped, for example because its
            // connection broke.
            Box::new(|saved| drop(sender.send(saved.and(result))))
        });
        let Some(jobs) = &self.jobs else { return Err(Refusal::Busy("ending")) };
        jobs.try_send(job).map_err(|error| {
            self.waiting_jobs.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refusal::Busy("busy"),
                TrySendError::Disconnected(_) => Refusal::Busy("ending"),
            }
        })?;
        self.wake();
        answer.await.unwrap_or(Err(Refusal::Busy("ending")))
    }

    /// How many jobs wait for the registry's thread.
    #[must_use]
    pub fn waiting_jobs(&self) -> usize {
        self.waiting_jobs.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        self.waker.wake();
    }
}

impl Drop for RegistryHandle {
    fn drop(&mut self) {
        // The channel is closed before the thread is woken for the last time, so that the thread
        // finds it closed.
        drop(self.jobs.take());
        self.wake();
    }
}

impl RegistryThread {
    /// Resolves when the registry's thread has ended. While there are handles, the thread ends only
    /// by an error or a panic. Cancel-safe.
    pub async fn ended(&mut self) {
        let _ = (&mut self.end).await;
    }

    /// Waits for the registry's thread to end. Blocks; the last handle must be dropped before this
    /// call.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}

/// Reads the registry in `directory`, begins to watch its living processes, and starts the thread.
/// `boot` is the first 32 bits of the boot id.
///
/// # Errors
///
/// [`StoreError`].
pub fn start_registry(
    directory: &Path,
    boot: u32,
    intervals: Intervals,
) -> Result<(RegistryHandle, RegistryThread), StoreError> {
    let system = |action| {
        let path = directory.to_owned();
        move |source| StoreError::System { action, path, source }
    };
    let OpenedStore { store, registry, damaged } = Store::open(directory, realtime_ns())?;
    if let Some((aside, damaged_lines)) = damaged {
        let (file, aside) = (store.path().display(), aside.display());
        tracing::error!(
            %file, damaged_lines, kept_as = %aside,
            "the registry's file was damaged: a copy was kept, the undamaged lines were loaded"
        );
    }
    let waker = Arc::new(Waker::new().map_err(system("make a waker for"))?);
    let liveness = Liveness::new(&*waker, pidfd_capacity()).map_err(system("make an epoll for"))?;
    let (jobs, waiting) = sync_channel(WAITING_JOBS_MAX);
    let mut owner = RegistryOwner { registry, store, liveness, boot };
    owner.watch_all();
    tracing::info!(
        entries = owner.registry.len(),
        living = owner.registry.living_count(),
        "registry loaded"
    );
    let handle =
        RegistryHandle { jobs: Some(jobs), waker: waker.clone(), waiting_jobs: Arc::default() };
    let thread = std::thread::Builder::new().name("registry".to_owned());
    let (living, end) = oneshot::channel();
    let thread = thread.spawn(move || {
        let _living = living;
        owner.serve_jobs(&waiting, &waker, intervals);
    });
    let thread = thread.map_err(system("start a thread for"))?;
    Ok((handle, RegistryThread { thread, end }))
}

impl RegistryOwner {
    /// The entries of the registry, for reading.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A copy of an entry for an answer. If its process is alive, `last_seen_ns` is the current
    /// time.
    #[must_use]
    pub fn as_of_now(&self, entry: &Entry) -> Entry {
        let mut current = entry.clone();
        if current.is_alive() {
            current.last_seen_ns = realtime_ns();
        }
        current
    }

    /// Registers a process. `pidfd` must be a pidfd of this process.
    ///
    /// # Errors
    ///
    /// As [`Registry::plan_add`]; [`Refusal::Unsaved`].
    pub fn add(&mut self, new: NewEntry, pidfd: OwnedFd) -> Result<Entry, Refusal> {
        let change = self.registry.plan_add(new, realtime_ns())?;
        self.commit(vec![change])?;
        let id = self.registry.last_id();
        let entry = self.registry.get(id).cloned().ok_or(Refusal::NoEntry { id })?;
        if self.liveness.watch(id, pidfd).is_err() {
            self.liveness.watch_by_scans(id, entry.process.key());
        }
        Ok(entry)
    }

    /// Loads entries of a snapshot and returns their new ids.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: no entry is loaded then.
    pub fn load(&mut self, entries: Vec<Entry>) -> Result<Vec<u64>, Refusal> {
        let mut changes = Vec::with_capacity(entries.len());
        let mut living = std::collections::HashSet::new();
        for entry in entries {
            let (process, is_alive) = (entry.process.clone(), entry.is_alive());
            // The registry does not have the planned entries yet, so it cannot find a duplicate
            // among them.
            if is_alive && !living.insert((process.boot, process.key())) {
                return Err(Refusal::Duplicate { pid: process.pid, id: entry.id });
            }
            changes.push(self.registry.plan_load(entry, changes.len() as u64)?);
        }
        let first = self.registry.last_id() + 1;
        self.commit(changes)?;
        let ids: Vec<u64> = (first..=self.registry.last_id()).collect();
        let ends = ids.iter().filter_map(|id| self.watch_entry(*id)).collect();
        self.record_ends(ends, false);
        Ok(ids)
    }

    /// Appends changes to the registry's file as one command, and applies them. They are not synced
    /// yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsaved`]: no change is applied then.
    pub fn commit(&mut self, changes: Vec<Change>) -> Result<(), Refusal> {
        self.store.append(&changes).map_err(|source| self.unsaved_refusal(source))?;
        for change in changes {
            match &change {
                Change::Remove { ids } => ids.iter().for_each(|id| self.liveness.unwatch(*id)),
                Change::Reset => {
                    self.registry.iter().for_each(|entry| self.liveness.unwatch(entry.id))
                }
                _ => {}
            }
            self.registry.apply(change);
        }
        Ok(())
    }

    /// The entry `id`, with a pidfd of its process.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoEntry`]; [`Refusal::Dead`] if the process has ended.
    pub fn entry_with_pidfd(&self, id: u64) -> Result<(Entry, OwnedFd), Refusal> {
        let entry = self.registry.get(id).ok_or(Refusal::NoEntry { id })?;
        let key = entry.process.key();
        let held = match self.liveness.pidfd(id).filter(|_| entry.is_alive()) {
            Some(pidfd) => pidfd.try_clone_to_owned(),
            None if entry.is_alive() && entry.process.boot == self.boot => {
                open_pidfd(key, entry.process.pidfd_inode)
            }
            None => Err(nix::errno::Errno::ESRCH.into()),
        };
        let is_reused = || is_reused(key, entry.process.pidfd_inode);
        let pidfd = held.map_err(|_| Refusal::Dead { id, pid: key.pid, is_reused: is_reused() })?;
        Ok((entry.clone(), pidfd))
    }

    fn serve_jobs(mut self, waiting: &Receiver<Job>, waker: &Waker, intervals: Intervals) {
        let (mut scanned, mut seen) = (Instant::now(), Instant::now());
        loop {
            // Without a deadline the thread sleeps until the end of a process or a job wakes it.
            let until_scan = self.liveness.needs_scans().then(|| scanned + intervals.liveness);
            let until_seen = (self.registry.living_count() > 0 || self.store.lacks_changes())
                .then(|| seen + intervals.last_seen);
            let timeout = epoll_timeout(until_scan.into_iter().chain(until_seen).min());
            let noticed = match self.liveness.wait(timeout) {
                Ok(noticed) => noticed,
                Err(error) => {
                    tracing::error!(
                        %error,
                        "registry thread exiting: failed to wait for ends of processes"
                    );
                    return;
                }
            };
            self.record_ends(noticed, true);
            let now = Instant::now();
            if until_scan.is_some_and(|until| until <= now) {
                scanned = now;
                let ended = self.liveness.scan();
                self.record_ends(ended, true);
            }
            let is_time = until_seen.is_some_and(|until| until <= now);
            if is_time {
                seen = now;
                self.append_or_rewrite(vec![Change::Seen { time_ns: realtime_ns() }]);
            }
            // The waker is cleared before the channel is drained: a job that is sent after the last
            // receive wakes the thread again.
            waker.clear();
            let mut replies = Vec::new();
            let has_ended = loop {
                match waiting.try_recv() {
                    Ok(job) => replies.push(job(&mut self)),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
            self.sync_and_answer(replies);
            if let Err(error) = self.store.compact(&self.registry, is_time) {
                tracing::warn!(%error, "failed to rewrite the registry's file, retrying later");
            }
            if has_ended {
                let _ = self.store.sync();
                return;
            }
        }
    }

    /// Syncs the registry's file, and answers all jobs that were run since the last sync.
    fn sync_and_answer(&mut self, replies: Vec<Reply>) {
        if replies.is_empty() {
            return;
        }
        let synced = self.store.sync();
        let Err(error) = synced else {
            replies.into_iter().for_each(|reply| reply(Ok(())));
            return;
        };
        tracing::error!(
            %error,
            "failed to sync the registry's file: the changes since the last sync are taken back"
        );
        // An io::Error cannot be cloned, and each reply needs its own error.
        let code = error.raw_os_error().unwrap_or(nix::libc::EIO);
        for reply in replies {
            reply(Err(self.unsaved_refusal(io::Error::from_raw_os_error(code))));
        }
        match self.store.reread() {
            Ok(registry) => {
                self.registry.iter().for_each(|entry| self.liveness.unwatch(entry.id));
                self.registry = registry;
                self.watch_all();
            }
            // The registry in memory still has the changes that could not be written. The file is
            // rewritten from it later, so that the two agree again.
            Err(error) => {
                tracing::error!(%error, "failed to reread the registry's file");
                self.store.note_missing_change();
            }
        }
    }

    /// Watches the process of every living entry, and records the ends of those that have ended
    /// while no daemon ran.
    fn watch_all(&mut self) {
        let living: Vec<u64> =
            self.registry.iter().filter(|entry| entry.is_alive()).map(|entry| entry.id).collect();
        let ends = living.into_iter().filter_map(|id| self.watch_entry(id)).collect();
        self.record_ends(ends, false);
    }

    /// Watches the process of a living entry. Returns the end of a process that has ended already.
    fn watch_entry(&mut self, id: u64) -> Option<NoticedEnd> {
        let process = &self.registry.get(id).filter(|entry| entry.is_alive())?.process;
        let ended = Some(NoticedEnd { id, ended: None });
        // No process survives a reboot.
        if process.boot != self.boot {
            return ended;
        }
        let key = process.key();
        match open_pidfd(key, process.pidfd_inode).and_then(|pidfd| self.liveness.watch(id, pidfd))
        {
            Ok(()) => None,
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => ended,
            Err(_) => {
                self.liveness.watch_by_scans(id, key);
                None
            }
        }
    }

    /// Records ends of processes as one line of the registry's file. The file is not synced: no
    /// client waits for it, and the line survives a kill of the daemon. `is_witnessed` is as in
    /// [`Change::End`].
    fn record_ends(&mut self, noticed: Vec<NoticedEnd>, is_witnessed: bool) {
        let time_ns = realtime_ns();
        let ends = noticed.into_iter().filter(|one| self.registry.get(one.id).is_some());
        let ends: Vec<Change> = ends
            .map(|NoticedEnd { id, ended }| Change::End {
                id,
                end: ProcessEnd::new(time_ns, ended),
                is_witnessed,
            })
            .collect();
        self.append_or_rewrite(ends);
    }

    /// Records changes that have happened already, so they cannot be refused: if they cannot be
    /// appended to the registry's file, the file is rewritten later.
    fn append_or_rewrite(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.store.append(&changes) {
            if !self.store.lacks_changes() {
                tracing::error!(
                    error = chain(&error),
                    "failed to append to the registry's file: the file will be rewritten"
                );
            }
            self.store.note_missing_change();
        }
        changes.into_iter().for_each(|change| self.registry.apply(change));
    }

    fn unsaved_refusal(&self, source: io::Error) -> Refusal {
        Refusal::Unsaved { path: self.store.path().to_owned(), source }
    }
}

/// How many processes may be watched by a pidfd, calculated from the limit of descriptors.
fn pidfd_capacity() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(limit - RESERVED_DESCRIPTORS.min(limit / 2)).unwrap_or(usize::MAX)
}

/// The timeout of an epoll_wait(2) that ends at the deadline `until`; none if there is no deadline.
fn epoll_timeout(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    // The time is rounded up to the next millisecond. If it were rounded down, the thread would
    // wake just before the deadline and then again.
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
}
