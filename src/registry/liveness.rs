//! Notices the ends of registered processes: a pidfd for each process, all in one epoll.
//!
//! A pidfd becomes readable when the last thread of the process has ended. The exit status is known
//! when the parent has reaped the process, which the same descriptor reports by EPOLLHUP. There is
//! no timer here. Processes for which no pidfd could be opened are checked by
//! [`scan`](Liveness::scan), which the caller calls at an interval.

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

/// The epoll data by which events of the waker are known. No entry has this id.
const WAKER_ID: u64 = u64::MAX;

/// The most ends of processes that one wait returns.
const ENDS_PER_WAIT: usize = 512;

/// The processes that are watched for their ends.
#[derive(Debug)]
pub struct Liveness {
    epoll: Epoll,
    by_pidfd: HashMap<u64, WatchedProcess>,
    /// The most pidfds in `by_pidfd`.
    capacity: usize,
    /// The processes for which no pidfd could be opened or kept, by the ids of their entries.
    by_scans: HashMap<u64, ProcessKey>,
}

#[derive(Debug)]
struct WatchedProcess {
    pidfd: OwnedFd,
    /// Whether the end of the process was returned already, without an exit status.
    has_ended: bool,
}

/// A process has ended, or its exit status has become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticedEnd {
    /// The id of the entry of the process.
    pub id: u64,
    /// The exit code or the signal; `None` before the process is reaped, and always before Linux
    /// 6.15.
    pub ended: Option<Ended>,
}

/// Opens a pidfd of the process `key`, which may be a zombie. `inode` is the inode of the process's
/// pidfd, if it is known: the inode distinguishes two processes that had the pid within one clock
/// tick.
///
/// # Errors
///
/// `ESRCH` if the process was reaped; otherwise the error of pidfd_open(2).
pub fn open_pidfd(key: ProcessKey, inode: Option<u64>) -> io::Result<OwnedFd> {
    let pidfd = pidfd::open(key.pid)?;
    let is_meant = identify(key.pid) == Some(key) && !has_other_inode(&pidfd, inode);
    // The signal is checked after `identify`: if the process of the descriptor is not reaped now,
    // it had the pid during `identify` too, so `identify` has read the start of this process.
    match pidfd::send_signal(&pidfd, 0) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Err(error),
        _ if is_meant => Ok(pidfd),
        _ => Err(nix::errno::Errno::ESRCH.into()),
    }
}

/// Whether another process has the pid now, even if it started in the same clock tick.
pub fn is_reused(key: ProcessKey, inode: Option<u64>) -> bool {
    let Some(now) = identify(key.pid) else { return false };
    now != key || pidfd::open(key.pid).is_ok_and(|pidfd| has_other_inode(&pidfd, inode))
}

/// Whether the pidfd has another inode than expected, so that it belongs to another process.
/// `false` if one of the two inodes is not known.
fn has_other_inode(pidfd: &OwnedFd, expected: Option<u64>) -> bool {
    pidfd::inode(pidfd).zip(expected).is_some_and(|(has, expected)| has != expected)
}

impl Liveness {
    /// Starts to watch, as yet without processes. [`wait`](Self::wait) also returns when `waker` is
    /// readable. At most `capacity` pidfds are kept, because connections and files need descriptors
    /// too.
    ///
    /// # Errors
    ///
    /// The error of epoll_create1(2) or epoll_ctl(2).
    pub fn new(waker: impl AsFd, capacity: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(waker, EpollEvent::new(EpollFlags::EPOLLIN, WAKER_ID))?;
        Ok(Self { epoll, by_pidfd: HashMap::new(), capacity, by_scans: HashMap::new() })
    }

    /// Watches an entry's process. `pidfd` must be a pidfd of this process, as [`open_pidfd`] opens
    /// it.
    ///
    /// # Errors
    ///
    /// `EMFILE` if the capacity is reached; `ENOSPC` or `ENOMEM` if a limit of epoll(7) is reached.
    pub fn watch(&mut self, id: u64, pidfd: OwnedFd) -> io::Result<()> {
        if self.by_pidfd.len() >= self.capacity {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        // The epoll is level-triggered, so a process that has ended already is reported by the next
        // wait.
        self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
        self.by_pidfd.insert(id, WatchedProcess { pidfd, has_ended: false });
        Ok(())
    }

    /// Watches an entry's process without a pidfd: [`scan`](Self::scan) notices its end.
    pub fn watch_by_scans(&mut self, id: u64, key: ProcessKey) {
        self.by_scans.insert(id, key);
    }

    /// Stops watching the process of an entry.
    pub fn unwatch(&mut self, id: u64) {
        self.by_scans.remove(&id);
        if let Some(held) = self.by_pidfd.remove(&id) {
            let _ = self.epoll.delete(&held.pidfd);
        }
    }

    /// The pidfd of an entry's process; `None` if the process is watched without a pidfd, or not at
    /// all.
    #[must_use]
    pub fn pidfd(&self, id: u64) -> Option<BorrowedFd<'_>> {
        self.by_pidfd.get(&id).map(|held| held.pidfd.as_fd())
    }

    /// Whether any process is watched without a pidfd.
    #[must_use]
    pub fn needs_scans(&self) -> bool {
        !self.by_scans.is_empty()
    }

    /// Checks the processes that are watched without a pidfd, and returns those that were reaped.
    pub fn scan(&mut self) -> Vec<NoticedEnd> {
        let ended = self.by_scans.extract_if(|_, key| identify(key.pid) != Some(*key));
        ended.map(|(id, _)| NoticedEnd { id, ended: None }).collect()
    }

    /// Waits until a process ends or is reaped, the waker is woken, or the timeout has passed.
    ///
    /// # Errors
    ///
    /// The error of epoll_wait(2). An interruption by a signal is no error.
    pub fn wait(&mut self, timeout: EpollTimeout) -> io::Result<Vec<NoticedEnd>> {
        let mut events = [EpollEvent::empty(); ENDS_PER_WAIT];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let ready = events.iter().take(count).map(EpollEvent::data).filter(|id| *id != WAKER_ID);
        Ok(ready.filter_map(|id| self.take_end(id)).collect())
    }

    fn take_end(&mut self, id: u64) -> Option<NoticedEnd> {
        let held = self.by_pidfd.get_mut(&id)?;
        let ended = pidfd::wait_status(&held.pidfd).map(Ended::from_wait_status);
        if ended.is_some() || held.has_ended {
            // The process is reaped, so its pidfd reports nothing more, whether the kernel has
            // given an exit status or not.
            let is_reported = held.has_ended;
            self.unwatch(id);
            return (ended.is_some() || !is_reported).then_some(NoticedEnd { id, ended });
        }
        held.has_ended = true;
        // EPOLLIN, which stays raised while the process is a zombie, is not requested any more.
        // EPOLLHUP is always reported, and only after the process was reaped (`pidfd_poll`, Linux
        // 6.9).
        let mut event = EpollEvent::new(EpollFlags::empty(), id);
        if self.epoll.modify(&held.pidfd, &mut event).is_err() {
            self.unwatch(id);
        }
        Some(NoticedEnd { id, ended: None })
    }
}

#[cfg(test)]
mod tests;
