//! Sends signals by pidfd, so that a signal never reaches another process that has the pid by now.

use std::{collections::HashMap, os::fd::OwnedFd};

use nix::libc::{SIGKILL, SIGSTOP};

use super::{Refusal, liveness::hold};
use crate::{
    linux::process::{identify, lineage, of_tree},
    model::ProcessKey,
    sys::pidfd::send_signal,
};

/// The most scans of a tree for new children. If the last scan still finds new children, only the
/// processes that were found are signalled; the caller can repeat the command.
const SCANS: usize = 64;

/// A process to which a signal is to be sent.
#[derive(Debug)]
pub struct Target {
    /// The id of the process's entry.
    pub id: u64,
    /// The identity of the process.
    pub key: ProcessKey,
    /// A pidfd of this process.
    pub pidfd: OwnedFd,
}

/// The entries and processes that were signalled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Signalled {
    /// The ids of the entries that were signalled.
    pub ids: Vec<u64>,
    /// How many processes were signalled, including descendants.
    pub processes: u32,
}

/// Sends a signal to processes, with `tree` also to all their descendants. Blocks for milliseconds,
/// because it reads `/proc`.
///
/// # Errors
///
/// [`Refusal::Dead`] if all processes have ended. [`Refusal::Signal`] if the kernel refuses the
/// signal for one process; the processes before it have been signalled then. [`Refusal::NoSignal`]
/// if there is no such signal.
pub fn signal(targets: Vec<Target>, signal: i32, tree: bool) -> Result<Signalled, Refusal> {
    let mut signalled = Signalled::default();
    let mut dead = None;
    for Target { id, key, pidfd } in targets {
        let members =
            if tree { tree_of(key, pidfd, signal == SIGKILL) } else { vec![(key, pidfd)] };
        let mut has_root = false;
        for (member, pidfd) in members {
            match send_signal(&pidfd, signal) {
                Ok(()) => {
                    has_root |= member == key;
                    signalled.processes += 1;
                }
                // The process ended before the signal was sent.
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                    return Err(Refusal::NoSignal { number: signal });
                }
                Err(source) => return Err(Refusal::Signal { pid: member.pid, source }),
            }
        }
        if has_root {
            signalled.ids.push(id);
        } else {
            dead = Some(Refusal::Dead { id, pid: key.pid, is_reused: false });
        }
    }
    match dead {
        Some(dead) if signalled.processes == 0 => Err(dead),
        _ => Ok(signalled),
    }
}

/// A process and its descendants, each with a pidfd. With `stop`, each process is stopped as soon
/// as it is found. A stopped process cannot fork. It cannot exit either: the children of a process
/// that exits get another parent, so they would not be found as descendants.
fn tree_of(root: ProcessKey, pidfd: OwnedFd, stop: bool) -> Vec<(ProcessKey, OwnedFd)> {
    let halt = |pidfd: &OwnedFd| {
        if stop {
            // An error is ignored here: it will occur again when the signal itself is sent.
            let _ = send_signal(pidfd, SIGSTOP);
        }
    };
    halt(&pidfd);
    let mut held = HashMap::from([(root, pidfd)]);
    for _ in 0..SCANS {
        let known: Vec<ProcessKey> = held.keys().copied().collect();
        let Ok(pids) = of_tree(root.pid, &known) else { break };
        let new: Vec<_> = pids.into_iter().filter_map(|pid| descendant(pid, &held)).collect();
        if new.is_empty() {
            break;
        }
        for (key, pidfd) in new {
            halt(&pidfd);
            held.insert(key, pidfd);
        }
    }
    // The daemon may be part of the tree. It must not kill itself.
    held.into_iter().filter(|(key, _)| !is_us(key.pid)).collect()
}

/// The process that has this pid now, with a pidfd. `None` if the process is in `held` already, or
/// if its parent is not in `held`: then the pid was reused after the scan.
fn descendant(pid: i32, held: &HashMap<ProcessKey, OwnedFd>) -> Option<(ProcessKey, OwnedFd)> {
    let key = identify(pid).filter(|key| !held.contains_key(key) && !is_us(pid))?;
    let pidfd = hold(key, None).ok()?;
    let parent = lineage(pid)?.parent?;
    held.contains_key(&parent).then_some((key, pidfd))
}

fn is_us(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(|pid| pid == std::process::id())
}
