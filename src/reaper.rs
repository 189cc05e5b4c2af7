//! Spawns every child of the shim, waits for every child, and delivers each exit once.
//!
//! The shim is a subreaper, so it has three kinds of children:
//!
//! * processes that it spawned (the OCI runtime, loggers): [`Reaper::spawn`];
//! * processes that the runtime left to it (a container's init, an exec): [`Reaper::adopt`];
//! * orphans of a container without a pid namespace of its own: reaped, and their exits are
//!   dropped.
//!
//! An adopted process can end before the shim knows its pid (an early exit). While a [`KeepExits`]
//! guard exists, the reaper keeps the exits of unknown processes, so that [`Reaper::adopt`] finds
//! them. A container that shares the pid namespace, or that forks with `CLONE_PARENT`, decides how
//! many there are. Beyond `UNCLAIMED_MAX` the reaper leaves unknown processes as zombies until the
//! last guard is dropped: the kernel then keeps the exits, and counts them towards the `pids.max`
//! of the container that made them. No exit is dropped that a runtime call may still claim.
//!
//! Pids are safe to use here. A pid cannot be reused before its zombie is reaped, reaping happens
//! under one lock, and that lock is held while a signal is sent ([`Reaper::signal`]). The pid of a
//! kept exit may have been reused. [`Reaper::adopt`] then finds the new process with `waitid` and
//! `WNOWAIT`.
//!
//! No function of this module blocks, and none depends on containers.

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
    model::{Ended, Exit},
    sys::process::{self, Reaped, SpawnAttr},
};

/// How many exits of unknown processes are kept. One takes 80 bytes at most.
const UNCLAIMED_MAX: usize = 4096;

/// How many zombies one call of [`Reaper::reap`] handles, so that the async thread can do something
/// else between two calls.
const REAPED_AT_ONCE: usize = 1024;

/// The only caller of `waitid(2)` for the shim's children. Clones share one table of children.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    children: Arc<Mutex<Children>>,
}

#[derive(Debug, Default)]
struct Children {
    /// Spawned and adopted children that have not been reaped, by pid.
    living: HashMap<i32, oneshot::Sender<Exit>>,
    /// The number of [`KeepExits`] guards that exist.
    keep_exits: usize,
    /// The last exit of each pid that was neither spawned nor adopted, at most `UNCLAIMED_MAX`.
    /// Empty while `keep_exits` is 0.
    unclaimed: HashMap<i32, Exit>,
}

/// A spawned or adopted child.
#[derive(Debug)]
pub struct Child {
    /// The pid. It is not reused before [`exit`](Child::exit) resolves.
    pub pid: i32,
    /// Resolves once, when the child is reaped.
    pub exit: oneshot::Receiver<Exit>,
}

/// A guard. While it exists, the reaper keeps the exits of unknown processes for [`Reaper::adopt`].
#[derive(Debug)]
pub struct KeepExits(Reaper);

/// The process is not a child of this shim, and the reaper has kept no exit of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("process {pid} is not a child of this shim")]
pub struct NotAChild {
    /// The pid of the process that could not be adopted.
    pub pid: i32,
}

impl Reaper {
    /// Spawns `command` in a process group of its own.
    ///
    /// Call it on the main thread only, unless the child may outlive the calling thread: see
    /// [`process::spawn`].
    ///
    /// # Errors
    ///
    /// The error of fork or exec.
    pub fn spawn(&self, command: &mut Command, attr: SpawnAttr) -> io::Result<Child> {
        // The lock is held across the spawn. Otherwise a child that ends at once could be reaped
        // before it is in the table, and its exit would be lost.
        let mut children = self.lock();
        let child = process::spawn(command, attr)?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(children.expect(pid))
    }

    /// Adopts a process that the OCI runtime left to this shim. The process must still run, or must
    /// have ended while a [`KeepExits`] guard existed.
    ///
    /// # Errors
    ///
    /// [`NotAChild`] if neither is the case, for example because the pid file is wrong.
    pub fn adopt(&self, pid: i32) -> Result<Child, NotAChild> {
        let mut children = self.lock();
        let number = u32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(NotAChild { pid })?;
        if children.living.contains_key(&pid) {
            return Err(NotAChild { pid });
        }
        if children.is_full() {
            // It may be one of the zombies that were left, or make space for one of them.
            request_reap();
        }
        if process::is_child(number) {
            // The process runs, or it is a zombie that `reap` has not reaped yet. `reap` will send
            // the exit.
            return Ok(children.expect(pid));
        }
        let exit = children.unclaimed.remove(&pid).ok_or(NotAChild { pid })?;
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(exit);
        Ok(Child { pid, exit: receiver })
    }

    /// Keeps the exits of unknown processes while the returned guard exists. Call this before the
    /// runtime is started.
    #[must_use]
    pub fn keep_exits(&self) -> KeepExits {
        self.lock().keep_exits += 1;
        KeepExits(self.clone())
    }

    /// Sends `signal` to a child.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the child has been reaped, else the error of kill(2).
    pub fn signal(&self, pid: i32, signal: Signal) -> nix::Result<()> {
        self.raw_signal(pid, signal as i32)
    }

    /// Does the same as [`signal`](Self::signal), for any signal number. Clients also send
    /// real-time signals, which [`Signal`] cannot represent.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the child has been reaped, `EINVAL` if the number is not a signal, otherwise the
    /// error of kill(2).
    pub fn raw_signal(&self, pid: i32, signal: i32) -> nix::Result<()> {
        // The lock is held until after kill(2). Reaping waits for the lock, so the pid cannot be
        // reused before the signal is sent.
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
    /// `ESRCH` if the child has been reaped, else the error of kill(2).
    pub fn kill_group(&self, pid: i32) -> nix::Result<()> {
        let children = self.lock();
        if !children.living.contains_key(&pid) {
            return Err(Errno::ESRCH);
        }
        killpg(Pid::from_raw(pid), Signal::SIGKILL)
    }

    /// Reaps every child that has ended, except unknown ones beyond `UNCLAIMED_MAX`. Call it for
    /// each `SIGCHLD`: pending signals of one kind coalesce, so one call must handle all zombies,
    /// or request the next call.
    pub fn reap(&self) {
        for _ in 0..REAPED_AT_ONCE {
            // The lock is released after each zombie, so that other users of the reaper do not wait
            // for a storm of exits.
            let mut children = self.lock();
            let reaped = match children.reap_one() {
                Ok(Some(reaped)) => reaped,
                Err(Errno::EINTR) => continue,
                // No child is a zombie, or the shim has no children (`ECHILD`).
                Ok(None) | Err(_) => return,
            };
            children.ended(Exit {
                timestamp: SystemTime::now(),
                pid: reaped.pid,
                ended: ended(reaped),
            });
        }
        request_reap();
    }

    /// The number of spawned and adopted children that have not been reaped.
    #[must_use]
    pub fn living(&self) -> usize {
        self.lock().living.len()
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        // No code that can panic runs under the lock, so the table is valid even if it is poisoned.
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the caller of [`Reaper::reap`] call it again. The kernel sends one `SIGCHLD` for each
/// zombie, and no further one for a zombie that was left.
fn request_reap() {
    // The process may signal itself, and without a handler the signal has no effect.
    let _ = process::kill(std::process::id().cast_signed(), Signal::SIGCHLD as i32);
}

/// Converts the kernel's report. An exit code and a signal stay distinct.
fn ended(Reaped { exited, status, .. }: Reaped) -> Ended {
    // Both numbers fit into a `u8`: an exit code is the low 8 bits of the argument of `exit_group`,
    // and a signal is at most 64.
    let number = u8::try_from(status).unwrap_or(u8::MAX);
    if exited { Ended::Code(number) } else { Ended::Signal(number) }
}

impl Children {
    fn expect(&mut self, pid: i32) -> Child {
        let (sender, exit) = oneshot::channel();
        self.living.insert(pid, sender);
        Child { pid, exit }
    }

    /// Whether no further exit of an unknown process can be kept.
    fn is_full(&self) -> bool {
        self.unclaimed.len() >= UNCLAIMED_MAX
    }

    /// Reaps one child that has ended: any, or only a known one if no further exit can be kept.
    fn reap_one(&self) -> nix::Result<Option<Reaped>> {
        if !self.is_full() {
            return process::reap_one();
        }
        // Each is asked for, because without a pid waitid(2) would report the same unknown zombie
        // again and again.
        Ok(self.living.keys().find_map(|pid| process::reap(*pid).ok().flatten()))
    }

    fn ended(&mut self, exit: Exit) {
        match self.living.remove(&exit.pid) {
            // Sending fails if the request that waits for the exit was dropped.
            Some(sender) => drop(sender.send(exit)),
            // Runtime calls are short, and pids are reused late: the last process with a pid is the
            // likeliest to be claimed.
            None if self.keep_exits > 0 => drop(self.unclaimed.insert(exit.pid, exit)),
            None => {}
        }
    }
}

impl Drop for KeepExits {
    fn drop(&mut self) {
        let mut children = self.0.lock();
        children.keep_exits -= 1;
        if children.keep_exits == 0 {
            if children.is_full() {
                request_reap();
            }
            children.unclaimed = HashMap::new();
        }
    }
}
