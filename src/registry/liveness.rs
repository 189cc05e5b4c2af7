//! Who of the registered lives: a pidfd each, all in one epoll.
//!
//! A pidfd is readable when the last thread of the process has ended: the end is known then, and
//! how it ended when the parent has reaped it, of which the same descriptor tells. Nothing here has
//! a timer; what no descriptor could be had for is looked at when [`look`](Liveness::look) is
//! called.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::{
    linux::process::identify,
    model::{Ended, ProcessKey},
    sys::pidfd,
};

/// Whoever wakes the waiting thread for another reason; no entry has this id.
const OTHER: u64 = u64::MAX;

/// How many ends one wait tells.
const BATCH: usize = 512;

/// The processes that are watched.
#[derive(Debug)]
pub struct Liveness {
    epoll: Epoll,
    held: HashMap<u64, Held>,
    /// How many may be held.
    room: usize,
    /// For which there was no descriptor.
    unheld: HashMap<u64, ProcessKey>,
}

#[derive(Debug)]
struct Held {
    pidfd: OwnedFd,
    has_ended: bool,
}

/// What became of an entry's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noticed {
    /// The entry.
    pub id: u64,
    /// How it ended; `None` where the kernel does not tell (yet).
    pub ended: Option<Ended>,
}

/// A descriptor of a process, if that is still the one that is meant: by its start, and by its
/// inode where that is known.
///
/// # Errors
///
/// `ESRCH` where it is not, a zombie is; what pidfd_open(2) answered.
pub fn hold(key: ProcessKey, inode: Option<u64>) -> io::Result<OwnedFd> {
    let pidfd = pidfd::open(key.pid)?;
    let is_meant = identify(key.pid) == Some(key) && !is_another(&pidfd, inode);
    // Who had the pid when it was asked about has it still: it is not reaped.
    match pidfd::send_signal(&pidfd, 0) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Err(error),
        _ if is_meant => Ok(pidfd),
        _ => Err(nix::errno::Errno::ESRCH.into()),
    }
}

/// Whether somebody else has the pid by now, who may have begun in the same clock tick.
pub fn is_reused(key: ProcessKey, inode: Option<u64>) -> bool {
    let Some(now) = identify(key.pid) else { return false };
    now != key || pidfd::open(key.pid).is_ok_and(|pidfd| is_another(&pidfd, inode))
}

fn is_another(pidfd: &OwnedFd, meant: Option<u64>) -> bool {
    pidfd::inode(pidfd).zip(meant).is_some_and(|(has, meant)| has != meant)
}

impl Liveness {
    /// Watches nobody, and wakes when `waker` is readable. So many are held at most: who connects
    /// needs descriptors too.
    ///
    /// # Errors
    ///
    /// What the system answered.
    pub fn new(waker: impl AsFd, room: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(waker, EpollEvent::new(EpollFlags::EPOLLIN, OTHER))?;
        Ok(Self { epoll, held: HashMap::new(), room, unheld: HashMap::new() })
    }

    /// Watches an entry's process, by a descriptor that was checked to be its.
    ///
    /// # Errors
    ///
    /// `EMFILE` where there is no room; `ENOSPC`, `ENOMEM`: at the limits of epoll(7).
    pub fn watch(&mut self, id: u64, pidfd: OwnedFd) -> io::Result<()> {
        if self.held.len() >= self.room {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
        self.held.insert(id, Held { pidfd, has_ended: false });
        Ok(())
    }

    /// Watches it without a descriptor: at looks.
    pub fn watch_at_looks(&mut self, id: u64, key: ProcessKey) {
        self.unheld.insert(id, key);
    }

    /// Forgets an entry.
    pub fn forget(&mut self, id: u64) {
        self.unheld.remove(&id);
        if let Some(held) = self.held.remove(&id) {
            let _ = self.epoll.delete(&held.pidfd);
        }
    }

    /// The descriptor of an entry's process, while there is one.
    #[must_use]
    pub fn pidfd(&self, id: u64) -> Option<BorrowedFd<'_>> {
        self.held.get(&id).map(|held| held.pidfd.as_fd())
    }

    /// Whether something has to be looked at.
    #[must_use]
    pub fn needs_looks(&self) -> bool {
        !self.unheld.is_empty()
    }

    /// Who of those without a descriptor has gone.
    pub fn look(&mut self) -> Vec<Noticed> {
        let gone = self.unheld.extract_if(|_, key| identify(key.pid) != Some(*key));
        gone.map(|(id, _)| Noticed { id, ended: None }).collect()
    }

    /// Waits for an end, or for the waker, or until the time is over.
    ///
    /// # Errors
    ///
    /// What epoll_wait(2) answered; an interruption is none.
    pub fn wait(&mut self, timeout: EpollTimeout) -> io::Result<Vec<Noticed>> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let ready = events.iter().take(count).map(EpollEvent::data).filter(|id| *id != OTHER);
        Ok(ready.filter_map(|id| self.ended(id)).collect())
    }

    fn ended(&mut self, id: u64) -> Option<Noticed> {
        let held = self.held.get_mut(&id)?;
        let ended = pidfd::wait_status(&held.pidfd).map(Ended::from_wait_status);
        if ended.is_some() || held.has_ended {
            // Reaped: nothing more comes, whether the kernel told how or not.
            let was_told = held.has_ended;
            self.forget(id);
            return (ended.is_some() || !was_told).then_some(Noticed { id, ended });
        }
        held.has_ended = true;
        // Hanging up is told always, and only after the process was reaped (pidfd_poll, Linux 6.9).
        let mut event = EpollEvent::new(EpollFlags::empty(), id);
        if self.epoll.modify(&held.pidfd, &mut event).is_err() {
            self.forget(id);
        }
        Some(Noticed { id, ended: None })
    }
}

#[cfg(test)]
mod tests;
