//! Every child of the shim: spawned here, waited for here, each exit told once.
//!
//! The shim is a subreaper, so three kinds of children end here:
//!
//! * those it spawned (the OCI runtime, loggers): [`Reaper::spawn`];
//! * those that the runtime left to it (a container's init, an exec): [`Reaper::adopt`];
//! * orphans of a container without a pid namespace of its own: reaped in silence.
//!
//! An adopted process can end before anyone knows its pid. While a [`Expecting`] guard lives, exits
//! that belong to nobody are kept for [`Reaper::adopt`] to find.
//!
//! Why a pid is no trap here: a pid cannot be reused before the zombie is reaped, reaping happens
//! under one lock, and that lock is held while a signal is sent ([`Reaper::signal`]). A kept exit
//! whose pid has been reused is told from the living process by asking the kernel (`WNOWAIT`).
//!
//! Nothing here blocks and nothing here knows containers.

use std::{
    collections::HashMap,
    io,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::sync::oneshot;

use crate::{
    model::Exit,
    sys::process::{self, SpawnAttr},
};

/// The one owner of `waitid(2)` in the process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    children: Arc<Mutex<Children>>,
}

#[derive(Debug, Default)]
struct Children {
    /// Living children that somebody waits for, by pid.
    living: HashMap<i32, oneshot::Sender<Exit>>,
    /// How many [`Expecting`] guards live.
    expecting: usize,
    /// Exits of nobody's, while `expecting` is not zero; the youngest last.
    unclaimed: Vec<Exit>,
}

/// A child that somebody waits for.
#[derive(Debug)]
pub struct Child {
    /// Its pid, which stays its own until [`exit`](Child::exit) has told the end.
    pub pid: i32,
    /// Resolves once, with its exit.
    pub exit: oneshot::Receiver<Exit>,
}

/// While it lives, exits of unknown processes are kept for [`Reaper::adopt`].
#[derive(Debug)]
pub struct Expecting(Reaper);

/// The process is not a child of this shim and no exit of it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("process {pid} is not a child of this shim")]
pub struct NotOurs {
    /// The pid that was asked for.
    pub pid: i32,
}

impl Reaper {
    /// Spawns `command` in a process group of its own.
    ///
    /// Call it on the main thread only: see [`process::spawn`].
    ///
    /// # Errors
    ///
    /// What fork or exec answered.
    pub fn spawn(&self, command: &mut Command, attr: SpawnAttr) -> io::Result<Child> {
        // The lock spans the spawn, so that a child that ends at once is not reaped as a stranger.
        let mut children = self.lock();
        let child = process::spawn(command, attr)?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(children.expect(pid))
    }

    /// Waits for a process that the OCI runtime left to this shim, whether it still runs or has
    /// ended while an [`Expecting`] guard lived.
    ///
    /// # Errors
    ///
    /// [`NotOurs`] for a process that is neither: a pid file that lies, for example.
    pub fn adopt(&self, pid: i32) -> Result<Child, NotOurs> {
        let mut children = self.lock();
        let number = u32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(NotOurs { pid })?;
        if children.living.contains_key(&pid) {
            return Err(NotOurs { pid });
        }
        if process::is_child(number) {
            // A living child, or a zombie that `reap` has not met: either way its exit is to come.
            return Ok(children.expect(pid));
        }
        let kept =
            children.unclaimed.iter().rposition(|exit| exit.pid == pid).ok_or(NotOurs { pid })?;
        let exit = children.unclaimed.remove(kept);
        let (tell, told) = oneshot::channel();
        let _ = tell.send(exit);
        Ok(Child { pid, exit: told })
    }

    /// Keeps the exits of unknown processes from now on. Take it before the runtime is started.
    #[must_use]
    pub fn expecting(&self) -> Expecting {
        self.lock().expecting += 1;
        Expecting(self.clone())
    }

    /// Sends `signal` to a child, or answers `ESRCH` if its end has been told.
    ///
    /// # Errors
    ///
    /// What kill(2) answered.
    pub fn signal(&self, pid: i32, signal: Signal) -> nix::Result<()> {
        self.raw_signal(pid, signal as i32)
    }

    /// As [`signal`](Self::signal), for any number: clients send real-time signals too.
    ///
    /// # Errors
    ///
    /// What kill(2) answered; `EINVAL` for a number that is no signal.
    pub fn raw_signal(&self, pid: i32, signal: i32) -> nix::Result<()> {
        let children = self.lock();
        if !children.living.contains_key(&pid) {
            return Err(Errno::ESRCH);
        }
        process::kill(pid, signal)
    }

    /// Sends `SIGKILL` to the process group that a spawned child leads.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the child's end has been told, else what kill(2) answered.
    pub fn kill_group(&self, pid: i32) -> nix::Result<()> {
        let children = self.lock();
        if !children.living.contains_key(&pid) {
            return Err(Errno::ESRCH);
        }
        killpg(Pid::from_raw(pid), Signal::SIGKILL)
    }

    /// Reaps what has ended. Called for each `SIGCHLD`; signals coalesce, so it takes all there is.
    pub fn reap(&self) {
        loop {
            // One zombie a turn of the lock: a spawn in between is never starved.
            let mut children = self.lock();
            let (pid, status) = match process::reap_one() {
                Ok(Some(ended)) => ended,
                Err(Errno::EINTR) => continue,
                // Nobody has ended, or `ECHILD`.
                Ok(None) | Err(_) => return,
            };
            children.ended(Exit {
                timestamp: SystemTime::now(),
                pid,
                status: u32::try_from(status).unwrap_or(255),
            });
        }
    }

    /// How many children somebody waits for.
    #[must_use]
    pub fn living(&self) -> usize {
        self.lock().living.len()
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        // No code that can panic runs under the lock; a poisoned one is still whole.
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Children {
    fn expect(&mut self, pid: i32) -> Child {
        let (tell, exit) = oneshot::channel();
        self.living.insert(pid, tell);
        Child { pid, exit }
    }

    fn ended(&mut self, exit: Exit) {
        match self.living.remove(&exit.pid) {
            // A receiver that is gone (its request was dropped) needs no answer.
            Some(tell) => drop(tell.send(exit)),
            None if self.expecting > 0 => self.unclaimed.push(exit),
            None => {}
        }
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut children = self.0.lock();
        children.expecting -= 1;
        if children.expecting == 0 {
            children.unclaimed = Vec::new();
        }
    }
}
