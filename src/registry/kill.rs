//! Signals by pidfd: to the process that is meant or to nobody.

use std::{collections::HashMap, os::fd::OwnedFd};

use nix::libc::{SIGKILL, SIGSTOP};

use super::{Refusal, liveness::hold};
use crate::{
    linux::process::{identify, lineage, of_tree},
    model::ProcessKey,
    sys::pidfd::send_signal,
};

/// How often a tree is looked at for children that came meanwhile. What forks faster than it is
/// stopped for so long is left: `kill` can be asked again.
const ROUNDS: usize = 64;

/// A process that a signal is for.
#[derive(Debug)]
pub struct Target {
    /// Its entry.
    pub id: u64,
    /// Who.
    pub key: ProcessKey,
    /// A descriptor that is its.
    pub pidfd: OwnedFd,
}

/// Who got a signal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Signalled {
    /// Entries.
    pub ids: Vec<u64>,
    /// Processes, descendants too.
    pub processes: u32,
}

/// Sends a signal to processes, and to all that descends from them if that is wanted. Reads
/// `/proc`: milliseconds.
///
/// # Errors
///
/// [`Refusal::Dead`] where all have ended; [`Refusal::Signal`] where the kernel refuses one of
/// them, which the others before it have got.
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
                // It ended by itself.
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

/// A process and its descendants, each held. Where they are to be killed they are stopped as they
/// are found, so that none forks away; a parent that ends meanwhile would leave its children to
/// another.
fn tree_of(root: ProcessKey, pidfd: OwnedFd, stop: bool) -> Vec<(ProcessKey, OwnedFd)> {
    let halt = |pidfd: &OwnedFd| {
        if stop {
            // Refused or ended: the signal itself tells.
            let _ = send_signal(pidfd, SIGSTOP);
        }
    };
    halt(&pidfd);
    let mut held = HashMap::from([(root, pidfd)]);
    for _ in 0..ROUNDS {
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
    // Ourselves, should we be of the tree, at no time.
    held.into_iter().filter(|(key, _)| !is_us(key.pid)).collect()
}

/// A process that was found in the tree, held, if the one that has its pid now is a child of one
/// that is held.
fn descendant(pid: i32, held: &HashMap<ProcessKey, OwnedFd>) -> Option<(ProcessKey, OwnedFd)> {
    let key = identify(pid).filter(|key| !held.contains_key(key) && !is_us(pid))?;
    let pidfd = hold(key, None).ok()?;
    let above = lineage(pid)?;
    let parent = ProcessKey { pid: above.parent_pid, start_ticks: above.parent_start_ticks };
    held.contains_key(&parent).then_some((key, pidfd))
}

fn is_us(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(|pid| pid == std::process::id())
}
