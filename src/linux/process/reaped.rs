//! Reports when dead processes were reaped.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use super::identify;
use crate::{model::ProcessKey, sys::pidfd};

/// How many pidfds are open at once. Further queries wait without a pidfd: a container that does
/// not reap its processes must not use up the shim's descriptors.
const PIDFDS_LIMIT: usize = 256;

/// How many queries may wait without a pidfd. Further queries are refused: see
/// [`ReapedQueries::ask`].
const QUERIES_LIMIT: usize = 65_536;

/// The first and the longest time between two reads of `/proc` for the processes that no pidfd
/// reports as reaped. The time grows, because a zombie may exist for as long as its container.
const CHECK_INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long a query is kept before a pidfd is opened for it. Most dead processes are reaped within
/// this time and need no pidfd.
const PIDFD_DELAY: Duration = Duration::from_millis(1);

/// Queries for the moment when a process is reaped: a query is answered once the process is reaped.
/// At that time its last thread is dead and its files are released.
///
/// A pidfd is readable once the whole thread group is dead. The kernel releases a thread's files
/// before that (`do_exit`: `exit_files`, then `exit_notify`), so the process holds no output any
/// more when the pidfd is readable. The process may still be a zombie, and keeps its pid until its
/// parent reaps it; only then the query is answered. Linux 6.9 and later also report the reaping
/// through the pidfd. On earlier kernels, zombies are checked again after
/// [`ReapedQueries::next_check_after`].
///
/// A value of this type belongs to one thread. No method blocks.
#[derive(Debug)]
pub struct ReapedQueries {
    epoll: Epoll,
    /// The processes with a pidfd, by pid.
    pidfds: HashMap<i32, (ProcessKey, OwnedFd)>,
    /// The processes in `pidfds` that are dead and not reaped.
    zombies: HashSet<ProcessKey>,
    /// Queries without a pidfd, because it could not be opened or `pidfds` was full.
    without_pidfd: VecDeque<ProcessKey>,
    /// Queries since the last call of [`answers`](Self::answers).
    new_queries: VecDeque<ProcessKey>,
    /// Queries between the last two calls of [`answers`](Self::answers): the next call handles
    /// them.
    due_queries: VecDeque<ProcessKey>,
    /// When the processes in `zombies` and `without_pidfd` are checked next.
    check_at: Instant,
    /// The time between the check at `check_at` and the one after it.
    interval: Duration,
    /// Processes that were reaped and are not yet passed to a sink.
    answered: VecDeque<ProcessKey>,
}

impl ReapedQueries {
    /// Creates an instance without queries.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE` without a free descriptor, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            pidfds: HashMap::new(),
            zombies: HashSet::new(),
            without_pidfd: VecDeque::new(),
            new_queries: VecDeque::new(),
            due_queries: VecDeque::new(),
            check_at: Instant::now(),
            interval: CHECK_INTERVAL.0,
            answered: VecDeque::new(),
        })
    }

    /// Adds a query for a process, which may be dead or alive. The query is answered once, by the
    /// second call of [`answers`](Self::answers) at the earliest. Returns `false` if too many
    /// queries wait; the caller must try again later.
    #[must_use]
    pub fn ask(&mut self, key: ProcessKey) -> bool {
        let has_space = self.without_pidfd.len() + self.new_queries.len() + self.due_queries.len()
            < QUERIES_LIMIT;
        if has_space {
            self.new_queries.push_back(key);
        }
        has_space
    }

    /// Frees what the queues do not use, after many processes died at the same time.
    pub fn shrink(&mut self) {
        let queues = [
            &mut self.without_pidfd,
            &mut self.new_queries,
            &mut self.due_queries,
            &mut self.answered,
        ];
        for queue in queues {
            queue.shrink_to_fit();
        }
        self.zombies.shrink_to_fit();
    }

    /// A descriptor that is readable when there may be answers.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// The time after which [`answers`](Self::answers) should be called even if [`fd`](Self::fd) is
    /// not readable, because some processes are zombies, some queries are new or have no pidfd, or
    /// some answers are not yet passed to a sink. `None` if no such call is needed.
    #[must_use]
    pub fn next_check_after(&self) -> Option<Duration> {
        if !self.answered.is_empty() {
            return Some(Duration::ZERO);
        }
        if !self.new_queries.is_empty() || !self.due_queries.is_empty() {
            return Some(PIDFD_DELAY);
        }
        let needs_check = !self.zombies.is_empty() || !self.without_pidfd.is_empty();
        needs_check.then(|| self.check_at.saturating_duration_since(Instant::now()))
    }

    /// Passes the processes that were reaped since the last call to `sink`. Never blocks.
    pub fn answers(&mut self, sink: &mut dyn FnMut(ProcessKey)) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for event in &events[..ready] {
                let pid = i32::try_from(event.data()).unwrap_or(0);
                let Some((key, _)) = self.pidfds.get(&pid) else { continue };
                // A readable pidfd means that the process is dead, but perhaps not reaped. Linux
                // 6.9 and later report the reaping too; on earlier kernels, only a check finds it.
                if identify(pid) != Some(*key) {
                    self.answer(*key);
                } else if self.zombies.insert(*key) {
                    self.check_at = self.check_at.min(Instant::now() + CHECK_INTERVAL.0);
                    self.interval = CHECK_INTERVAL.0;
                }
            }
            if ready < events.len() {
                break;
            }
        }
        for key in std::mem::replace(&mut self.due_queries, std::mem::take(&mut self.new_queries)) {
            if self.pidfds.len() >= PIDFDS_LIMIT || !self.open_pidfd(key) {
                self.without_pidfd.push_back(key);
            }
        }
        if Instant::now() >= self.check_at {
            self.check();
        }
        self.answered.drain(..).for_each(sink);
    }

    /// Reads `/proc` for the zombies and for the queries without a pidfd. The time until the next
    /// check is doubled if no zombie was reaped.
    fn check(&mut self) {
        let reaped: Vec<_> =
            self.zombies.iter().copied().filter(|key| identify(key.pid) != Some(*key)).collect();
        self.interval = if reaped.is_empty() {
            (self.interval * 2).min(CHECK_INTERVAL.1)
        } else {
            CHECK_INTERVAL.0
        };
        reaped.into_iter().for_each(|key| self.answer(key));
        for _ in 0..self.without_pidfd.len() {
            let Some(key) = self.without_pidfd.pop_front() else { break };
            if identify(key.pid) != Some(key) {
                self.answered.push_back(key);
            } else if self.pidfds.len() >= PIDFDS_LIMIT || !self.open_pidfd(key) {
                self.without_pidfd.push_back(key);
            }
        }
        self.check_at = Instant::now() + self.interval;
    }

    /// Notes that a process with a pidfd was reaped, and closes its pidfd.
    fn answer(&mut self, key: ProcessKey) {
        self.zombies.remove(&key);
        self.pidfds.remove(&key.pid);
        self.answered.push_back(key);
    }

    /// Opens a pidfd of the process, or answers the query if the process was reaped. Returns
    /// `false` if no pidfd can be opened now.
    fn open_pidfd(&mut self, key: ProcessKey) -> bool {
        if self.pidfds.get(&key.pid).is_some_and(|(known, _)| *known == key) {
            return true;
        }
        let fd = match pidfd::open(key.pid) {
            Ok(fd) => fd,
            // No process has the pid, or it is the id of a thread of another process.
            Err(error) if error.raw_os_error().map(Errno::from_raw) == Some(Errno::ESRCH) => {
                self.answered.push_back(key);
                return true;
            }
            Err(_) => return false,
        };
        // Checked after the open: if the process has the pid now, it also had the pid when the
        // pidfd was opened. If another process has the pid, the process of the query was reaped.
        if identify(key.pid) != Some(key) {
            self.answered.push_back(key);
            return true;
        }
        let data = u64::try_from(key.pid).unwrap_or(0);
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        if self.epoll.add(&fd, EpollEvent::new(flags, data)).is_err() {
            return false;
        }
        // This process has the pid now, so an earlier process with the same pid was reaped.
        if let Some((older, _)) = self.pidfds.insert(key.pid, (key, fd)) {
            self.zombies.remove(&older);
            self.answered.push_back(older);
        }
        true
    }
}
