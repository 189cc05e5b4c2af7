//! The registry's one owner: a thread that has the entries, their file and their descriptors.
//!
//! ```text
//!  service ── job ──►  run it: plan, append, apply ─┐
//!                      … all that wait              ├─► one sync ──► all their answers
//!  kernel ── end ──►   append, apply                ┘
//! ```
//!
//! Nothing is answered before it is on disk, and one sync serves all that wait for one. The thread
//! has no timer while nothing that is registered lives.

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
    Change, New, Refusal, Registry,
    entry::{End, Entry},
    liveness::{Liveness, Noticed, hold, is_reused},
    store::{Opened, Store, StoreError},
};
use crate::{clock::realtime_ns, model::chain, platform::Waker};

/// Jobs that wait. When there are so many, the next is refused: its client tries again.
const WAITING: usize = 1024;

type Reply = Box<dyn FnOnce(Result<(), Refusal>) + Send>;
type Job = Box<dyn FnOnce(&mut RegistryOwner) -> Reply + Send>;

/// What the service asks through.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Taken when this is dropped only.
    jobs: Option<SyncSender<Job>>,
    waker: Arc<Waker>,
    waiting: Arc<AtomicUsize>,
}

/// The thread. It ends when all handles are gone.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<()>,
    /// Closed by the thread's end, a panic too.
    end: oneshot::Receiver<()>,
}

/// How often what has no other way to be told is done.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Between looks at processes without a descriptor.
    pub liveness: Duration,
    /// Between notes on disk that everything that lives was seen.
    pub last_seen: Duration,
}

/// What is left for connections, shims and files; of a small limit a half.
const OTHER_DESCRIPTORS: u64 = 512;

/// The registry with its file and its descriptors.
#[derive(Debug)]
pub struct RegistryOwner {
    registry: Registry,
    store: Store,
    liveness: Liveness,
    boot: u32,
}

impl Handle {
    /// Does something with the registry, and gives the answer when it is on disk.
    ///
    /// # Errors
    ///
    /// What the work refuses; [`Refusal::Busy`], [`Refusal::Unsaved`].
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RegistryOwner) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let waiting = self.waiting.clone();
        waiting.fetch_add(1, Ordering::Relaxed);
        let job: Job = Box::new(move |owner| {
            waiting.fetch_sub(1, Ordering::Relaxed);
            let result = work(owner);
            // Whoever asked may have left.
            Box::new(|saved| drop(sender.send(saved.and(result))))
        });
        let Some(jobs) = &self.jobs else { return Err(Refusal::Busy("ending")) };
        jobs.try_send(job).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refusal::Busy("busy"),
                TrySendError::Disconnected(_) => Refusal::Busy("ending"),
            }
        })?;
        self.wake();
        answer.await.unwrap_or(Err(Refusal::Busy("ending")))
    }

    /// How many jobs wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        // A full counter is a wake-up too.
        self.waker.wake();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // First: the thread that is woken for the last time must find that nobody asks any more.
        drop(self.jobs.take());
        self.wake();
    }
}

impl Running {
    /// Resolves when the thread has ended, which it does not do by itself while there are handles.
    /// Can be dropped without loss.
    pub async fn ended(&mut self) {
        let _ = (&mut self.end).await;
    }

    /// Waits for the thread, after the last handle is gone.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}

/// Reads the registry of a folder, sees who of it lives, and begins to keep it.
///
/// # Errors
///
/// [`StoreError`].
pub fn start(
    folder: &Path,
    boot: u32,
    intervals: Intervals,
) -> Result<(Handle, Running), StoreError> {
    let system = |action| {
        let path = folder.to_owned();
        move |source| StoreError::System { action, path, source }
    };
    let Opened { store, registry, damaged } = Store::open(folder, realtime_ns())?;
    if let Some((aside, lines)) = damaged {
        let (file, aside) = (store.path().display(), aside.display());
        tracing::error!(%file, lines, kept_as = %aside, "the registry's file was damaged; what could be read goes on");
    }
    let waker = Arc::new(Waker::new().map_err(system("make a waker for"))?);
    let liveness = Liveness::new(&*waker, room()).map_err(system("make an epoll for"))?;
    let (jobs, waiting) = sync_channel(WAITING);
    let mut owner = RegistryOwner { registry, store, liveness, boot };
    owner.watch_all();
    tracing::info!(
        entries = owner.registry.len(),
        living = owner.registry.living(),
        "the registry was read"
    );
    let handle = Handle { jobs: Some(jobs), waker: waker.clone(), waiting: Arc::default() };
    let thread = std::thread::Builder::new().name("registry".to_owned());
    let (living, end) = oneshot::channel();
    let thread = thread.spawn(move || {
        let _living = living;
        owner.run(&waiting, &waker, intervals);
    });
    let thread = thread.map_err(system("start a thread for"))?;
    Ok((handle, Running { thread, end }))
}

impl RegistryOwner {
    /// The entries.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// An entry as it is now: what lives is seen now.
    #[must_use]
    pub fn shown(&self, entry: &Entry) -> Entry {
        let mut shown = entry.clone();
        if shown.is_alive() {
            shown.last_seen_ns = realtime_ns();
        }
        shown
    }

    /// Registers a process by a descriptor that is its.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn add(&mut self, new: New, pidfd: OwnedFd) -> Result<Entry, Refusal> {
        let change = self.registry.add(new, realtime_ns())?;
        self.commit(vec![change])?;
        let id = self.registry.last_id();
        let entry = self.registry.get(id).cloned().ok_or(Refusal::NoEntry { id })?;
        if self.liveness.watch(id, pidfd).is_err() {
            self.liveness.watch_at_looks(id, entry.process.key());
        }
        Ok(entry)
    }

    /// Takes over entries of a snapshot.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: none of them is taken over then.
    pub fn load(&mut self, entries: Vec<Entry>) -> Result<Vec<u64>, Refusal> {
        let mut changes = Vec::with_capacity(entries.len());
        let mut living = std::collections::HashSet::new();
        for entry in entries {
            let (process, is_alive) = (entry.process.clone(), entry.is_alive());
            if is_alive && !living.insert((process.boot, process.key())) {
                return Err(Refusal::Duplicate { pid: process.pid, id: entry.id });
            }
            changes.push(self.registry.load(entry, changes.len() as u64)?);
        }
        let first = self.registry.last_id() + 1;
        self.commit(changes)?;
        let ids: Vec<u64> = (first..=self.registry.last_id()).collect();
        let ends = ids.iter().filter_map(|id| self.watch_entry(*id)).collect();
        self.note(ends, false);
        Ok(ids)
    }

    /// Writes changes as one command, and makes them so.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsaved`]: nothing has changed then.
    pub fn commit(&mut self, changes: Vec<Change>) -> Result<(), Refusal> {
        self.store.append(&changes).map_err(|source| self.unsaved(source))?;
        for change in changes {
            match &change {
                Change::Remove { ids } => ids.iter().for_each(|id| self.liveness.forget(*id)),
                Change::Reset => {
                    self.registry.iter().for_each(|entry| self.liveness.forget(entry.id))
                }
                _ => {}
            }
            self.registry.apply(change);
        }
        Ok(())
    }

    /// A descriptor of an entry's process, if it lives.
    ///
    /// # Errors
    ///
    /// [`Refusal::Dead`].
    pub fn process_of(&self, id: u64) -> Result<(Entry, OwnedFd), Refusal> {
        let entry = self.registry.get(id).ok_or(Refusal::NoEntry { id })?;
        let key = entry.process.key();
        let held = match self.liveness.pidfd(id).filter(|_| entry.is_alive()) {
            Some(pidfd) => pidfd.try_clone_to_owned(),
            None if entry.is_alive() && entry.process.boot == self.boot => {
                hold(key, entry.process.pidfd_inode)
            }
            None => Err(nix::errno::Errno::ESRCH.into()),
        };
        let is_reused = || is_reused(key, entry.process.pidfd_inode);
        let pidfd = held.map_err(|_| Refusal::Dead { id, pid: key.pid, is_reused: is_reused() })?;
        Ok((entry.clone(), pidfd))
    }

    fn run(mut self, waiting: &Receiver<Job>, waker: &Waker, intervals: Intervals) {
        let (mut looked, mut seen) = (Instant::now(), Instant::now());
        loop {
            let until_look = self.liveness.needs_looks().then(|| looked + intervals.liveness);
            let until_seen = (self.registry.living() > 0 || self.store.is_behind())
                .then(|| seen + intervals.last_seen);
            let timeout = timeout(until_look.into_iter().chain(until_seen).min());
            let noticed = match self.liveness.wait(timeout) {
                Ok(noticed) => noticed,
                Err(error) => {
                    tracing::error!(%error, "failed to wait for processes");
                    return;
                }
            };
            self.note(noticed, true);
            let now = Instant::now();
            if until_look.is_some_and(|until| until <= now) {
                looked = now;
                let gone = self.liveness.look();
                self.note(gone, true);
            }
            let is_time = until_seen.is_some_and(|until| until <= now);
            if is_time {
                seen = now;
                self.happen(vec![Change::Seen { time_ns: realtime_ns() }]);
            }
            waker.clear();
            let mut replies = Vec::new();
            let has_ended = loop {
                match waiting.try_recv() {
                    Ok(job) => replies.push(job(&mut self)),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
            self.answer(replies);
            if let Err(error) = self.store.compact(&self.registry, is_time) {
                tracing::warn!(%error, "failed to write the registry's file anew");
            }
            if has_ended {
                let _ = self.store.sync();
                return;
            }
        }
    }

    /// Syncs, and answers.
    fn answer(&mut self, replies: Vec<Reply>) {
        if replies.is_empty() {
            return;
        }
        let synced = self.store.sync();
        let Err(error) = synced else {
            replies.into_iter().for_each(|reply| reply(Ok(())));
            return;
        };
        tracing::error!(%error, "failed to sync the registry's file: what was asked since is not done");
        let code = error.raw_os_error().unwrap_or(nix::libc::EIO);
        for reply in replies {
            reply(Err(self.unsaved(io::Error::from_raw_os_error(code))));
        }
        match self.store.reread() {
            Ok(registry) => {
                self.registry.iter().for_each(|entry| self.liveness.forget(entry.id));
                self.registry = registry;
                self.watch_all();
            }
            // What is in memory is more than what is on disk, until it is written anew.
            Err(error) => {
                tracing::error!(%error, "failed to read the registry's file again");
                self.store.fall_behind();
            }
        }
    }

    /// Watches every entry that lives, and ends those that do not any more.
    fn watch_all(&mut self) {
        let living: Vec<u64> =
            self.registry.iter().filter(|entry| entry.is_alive()).map(|entry| entry.id).collect();
        let ends = living.into_iter().filter_map(|id| self.watch_entry(id)).collect();
        self.note(ends, false);
    }

    /// Watches an entry; what is to be told where its process is gone.
    fn watch_entry(&mut self, id: u64) -> Option<Noticed> {
        let process = &self.registry.get(id).filter(|entry| entry.is_alive())?.process;
        let gone = Some(Noticed { id, ended: None });
        if process.boot != self.boot {
            return gone;
        }
        let key = process.key();
        match hold(key, process.pidfd_inode).and_then(|pidfd| self.liveness.watch(id, pidfd)) {
            Ok(()) => None,
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => gone,
            Err(_) => {
                self.liveness.watch_at_looks(id, key);
                None
            }
        }
    }

    /// Ends that nobody waits for: one line, without a sync of its own.
    fn note(&mut self, noticed: Vec<Noticed>, is_witnessed: bool) {
        let time_ns = realtime_ns();
        let ends = noticed.into_iter().filter(|one| self.registry.get(one.id).is_some());
        let ends: Vec<Change> = ends
            .map(|Noticed { id, ended }| Change::End {
                id,
                end: End::new(time_ns, ended),
                is_witnessed,
            })
            .collect();
        self.happen(ends);
    }

    /// What has happened has happened, whether the disk has room for it or not.
    fn happen(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.store.append(&changes) {
            if !self.store.is_behind() {
                tracing::error!(
                    error = chain(&error),
                    "the registry's file is behind what happened"
                );
            }
            self.store.fall_behind();
        }
        changes.into_iter().for_each(|change| self.registry.apply(change));
    }

    fn unsaved(&self, source: io::Error) -> Refusal {
        Refusal::Unsaved { path: self.store.path().to_owned(), source }
    }
}

/// For how many processes there are descriptors.
fn room() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(limit - OTHER_DESCRIPTORS.min(limit / 2)).unwrap_or(usize::MAX)
}

fn timeout(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    // Rounded up: waking a little early would be waking twice.
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
}
