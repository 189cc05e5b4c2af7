//! Tells when dead processes were reaped.

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

/// How many descriptors of processes are kept at once. A question beyond that waits, without one:
/// the table of descriptors is the shim's, and a container that reaps nobody must not fill it.
const KEPT_LIMIT: usize = 256;

/// How many questions wait. One beyond that is refused: see [`Reaped::ask`].
const WAITING_LIMIT: usize = 65_536;

/// How long until what no descriptor tells is asked again: at first, and at most. A zombie may stay
/// one for as long as its container lives.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long a question ripens: most of the dead are reaped within it, and then nothing is kept of
/// them.
const RIPE: Duration = Duration::from_millis(1);

/// Questions whether a process is *done*: its last thread dead, its files released, and it reaped.
///
/// A pidfd is readable once the whole thread group is dead; the kernel releases a thread's files
/// before that (`do_exit`: `exit_files`, then `exit_notify`), so whoever reads it then finds
/// nothing held by that process. It may still be a zombie, and its pid is taken until its parent
/// reaps it: only then is it answered here. Linux 6.9 and later wake the descriptor a second time
/// for that; for earlier ones zombies are asked about again after [`Reaped::again_after`].
///
/// Belongs to one thread; nothing here waits.
#[derive(Debug)]
pub struct Reaped {
    epoll: Epoll,
    kept: HashMap<i32, (ProcessKey, OwnedFd)>,
    zombies: HashSet<ProcessKey>,
    waiting: VecDeque<ProcessKey>,
    /// Asked since the last call of [`answers`](Self::answers), and before it.
    asked: VecDeque<ProcessKey>,
    ripe: VecDeque<ProcessKey>,
    /// When `zombies` and `waiting` are looked at next, and how long after that again.
    look_at: Instant,
    pause: Duration,
    answered: VecDeque<ProcessKey>,
}

impl Reaped {
    /// Nothing asked yet.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            kept: HashMap::new(),
            zombies: HashSet::new(),
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            ripe: VecDeque::new(),
            look_at: Instant::now(),
            pause: AGAIN.0,
            answered: VecDeque::new(),
        })
    }

    /// Asks about a process, dead already or not. Answered once by [`answers`](Self::answers), by
    /// the second call of it at the earliest. `false`: too many wait; ask again later.
    #[must_use]
    pub fn ask(&mut self, key: ProcessKey) -> bool {
        let is_taken = self.waiting.len() + self.asked.len() + self.ripe.len() < WAITING_LIMIT;
        if is_taken {
            self.asked.push_back(key);
        }
        is_taken
    }

    /// Readable when there may be answers.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// When [`answers`](Self::answers) should be called even though nothing is readable: some
    /// processes are zombies, or wait for a descriptor, or are answered already. `None`: never.
    #[must_use]
    pub fn again_after(&self) -> Option<Duration> {
        if !self.answered.is_empty() {
            return Some(Duration::ZERO);
        }
        if !self.asked.is_empty() || !self.ripe.is_empty() {
            return Some(RIPE);
        }
        let looks = !self.zombies.is_empty() || !self.waiting.is_empty();
        looks.then(|| self.look_at.saturating_duration_since(Instant::now()))
    }

    /// Gives those that were reaped since the last call to `sink`. Never waits.
    pub fn answers(&mut self, sink: &mut dyn FnMut(ProcessKey)) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for event in &events[..ready] {
                let pid = i32::try_from(event.data()).unwrap_or(0);
                let Some((key, _)) = self.kept.get(&pid) else { continue };
                // Readable is dead, and perhaps not reaped; Linux 6.9 and later tell of that too.
                if identify(pid) != Some(*key) {
                    self.reaped(*key);
                } else if self.zombies.insert(*key) {
                    self.look_at = self.look_at.min(Instant::now() + AGAIN.0);
                    self.pause = AGAIN.0;
                }
            }
            if ready < events.len() {
                break;
            }
        }
        for key in std::mem::replace(&mut self.ripe, std::mem::take(&mut self.asked)) {
            if self.kept.len() >= KEPT_LIMIT || !self.keep(key) {
                self.waiting.push_back(key);
            }
        }
        if Instant::now() >= self.look_at {
            self.look();
        }
        self.answered.drain(..).for_each(sink);
    }

    /// Looks at what no descriptor has told, and then less and less often while nothing comes of
    /// it.
    fn look(&mut self) {
        let reaped: Vec<_> =
            self.zombies.iter().copied().filter(|key| identify(key.pid) != Some(*key)).collect();
        self.pause = if reaped.is_empty() { (self.pause * 2).min(AGAIN.1) } else { AGAIN.0 };
        reaped.into_iter().for_each(|key| self.reaped(key));
        for _ in 0..self.waiting.len() {
            let Some(key) = self.waiting.pop_front() else { break };
            if identify(key.pid) != Some(key) {
                self.answered.push_back(key);
            } else if self.kept.len() >= KEPT_LIMIT || !self.keep(key) {
                self.waiting.push_back(key);
            }
        }
        self.look_at = Instant::now() + self.pause;
    }

    fn reaped(&mut self, key: ProcessKey) {
        self.zombies.remove(&key);
        self.kept.remove(&key.pid);
        self.answered.push_back(key);
    }

    /// Keeps a descriptor of the process, or answers. `false`: neither could be done now.
    fn keep(&mut self, key: ProcessKey) -> bool {
        if self.kept.get(&key.pid).is_some_and(|(kept, _)| *kept == key) {
            return true;
        }
        let fd = match pidfd::open(key.pid) {
            Ok(fd) => fd,
            // Nobody has the pid, or a thread of somebody else's has it.
            Err(error) if error.raw_os_error().map(Errno::from_raw) == Some(Errno::ESRCH) => {
                self.answered.push_back(key);
                return true;
            }
            Err(_) => return false,
        };
        // After the open: what has the pid now has had it when the descriptor was made, or is
        // younger than that, and then it is not the one that was asked about.
        if identify(key.pid) != Some(key) {
            self.answered.push_back(key);
            return true;
        }
        let data = u64::try_from(key.pid).unwrap_or(0);
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        if self.epoll.add(&fd, EpollEvent::new(flags, data)).is_err() {
            return false;
        }
        // An older process of the same pid was reaped: this one has it now.
        if let Some((older, _)) = self.kept.insert(key.pid, (key, fd)) {
            self.zombies.remove(&older);
            self.answered.push_back(older);
        }
        true
    }
}
