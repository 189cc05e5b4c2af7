//! Sends signals by pidfd, so that a signal never reaches a process that has reused a pid.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
};

use nix::libc::{SIGKILL, SIGSTOP};

use super::{Refusal, liveness::open_pidfd};
use crate::{
    linux::process::{identify, lineage, of_tree},
    model::ProcessKey,
    sys::pidfd::send_signal,
};

/// The most scans of a process tree for new children. If the last scan still finds new children,
/// only the processes that were found are signalled; the user can repeat the command.
const TREE_SCANS_MAX: usize = 64;

/// A process to which a signal is to be sent.
#[derive(Debug)]
pub struct SignalTarget {
    /// The id of the registry entry of the process.
    pub id: u64,
    /// The identity of the process.
    pub key: ProcessKey,
    /// A pidfd of the process.
    pub pidfd: OwnedFd,
    /// Further processes that get the signal with `tree`, with their descendants.
    pub others: Vec<ProcessKey>,
}

impl SignalTarget {
    /// A target without an entry; `None` if the process has ended.
    #[must_use]
    pub fn of_process(key: ProcessKey) -> Option<Self> {
        Some(Self { id: 0, key, pidfd: open_pidfd(key, None).ok()?, others: Vec::new() })
    }
}

/// The entries and processes that were signalled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Signalled {
    /// The ids of the entries that were signalled.
    pub ids: Vec<u64>,
    /// How many processes were signalled, including descendants.
    pub processes: u32,
    /// The identities of these processes.
    pub keys: HashSet<ProcessKey>,
}

/// Sends a signal to processes, with `tree` also to all their descendants. Blocks for milliseconds,
/// because it reads `/proc`.
///
/// # Errors
///
/// [`Refusal::Dead`] if all processes have ended. [`Refusal::Signal`] if the kernel refuses the
/// signal for one process; the processes before it have been signalled then. [`Refusal::NoSignal`]
/// if there is no such signal.
pub fn signal_processes(
    targets: Vec<SignalTarget>,
    signal: i32,
    tree: bool,
) -> Result<Signalled, Refusal> {
    let mut signalled = Signalled::default();
    let mut dead = None;
    for SignalTarget { id, key, pidfd, others } in targets {
        let members = if tree {
            open_tree(key, pidfd, &others, signal == SIGKILL)
        } else {
            vec![(key, pidfd)]
        };
        let mut has_root = false;
        for (member, pidfd) in members {
            // Two targets may have descendants in common.
            if signalled.keys.contains(&member) {
                has_root |= member == key;
                continue;
            }
            match send_signal(&pidfd, signal) {
                Ok(()) => {
                    has_root |= member == key;
                    signalled.processes += 1;
                    signalled.keys.insert(member);
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
            signalled.ids.extend(Some(id).filter(|id| *id != 0));
        } else {
            dead = Some(Refusal::Dead { id, pid: key.pid, is_reused: false });
        }
    }
    match dead {
        Some(dead) if signalled.processes == 0 => Err(dead),
        _ => Ok(signalled),
    }
}

/// Opens a pidfd of a process, of `others` and of each of their descendants. With `stop`, each
/// process is stopped as soon as it is found. A stopped process cannot fork. It cannot exit either:
/// the children of a process that exits get another parent, so they would not be found as
/// descendants.
fn open_tree(
    root: ProcessKey,
    pidfd: OwnedFd,
    others: &[ProcessKey],
    stop: bool,
) -> Vec<(ProcessKey, OwnedFd)> {
    let halt = |pidfd: &OwnedFd| {
        if stop {
            // An error of SIGSTOP is ignored: it will occur again when the requested signal is
            // sent.
            let _ = send_signal(pidfd, SIGSTOP);
        }
    };
    halt(&pidfd);
    let mut held = HashMap::from([(root, pidfd)]);
    for other in others.iter().filter(|other| !is_this_process(other.pid)) {
        // A process that has ended has no pidfd.
        if let Ok(pidfd) = open_pidfd(*other, None) {
            halt(&pidfd);
            held.insert(*other, pidfd);
        }
    }
    for _ in 0..TREE_SCANS_MAX {
        let known: Vec<ProcessKey> = held.keys().copied().collect();
        let Ok(pids) = of_tree(root.pid, &known) else { break };
        let new: Vec<_> = pids.into_iter().filter_map(|pid| open_descendant(pid, &held)).collect();
        if new.is_empty() {
            break;
        }
        for (key, pidfd) in new {
            halt(&pidfd);
            held.insert(key, pidfd);
        }
    }
    // The daemon may be part of the tree. It must not kill itself.
    held.into_iter().filter(|(key, _)| !is_this_process(key.pid)).collect()
}

/// Opens a pidfd of the process that has `pid` now. `None` if the process is in `held` already, or
/// if its parent is not in `held`: then the pid was reused after the scan.
fn open_descendant(pid: i32, held: &HashMap<ProcessKey, OwnedFd>) -> Option<(ProcessKey, OwnedFd)> {
    let key = identify(pid).filter(|key| !held.contains_key(key) && !is_this_process(pid))?;
    let pidfd = open_pidfd(key, None).ok()?;
    let parent = lineage(pid)?.parent?;
    held.contains_key(&parent).then_some((key, pidfd))
}

fn is_this_process(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(|pid| pid == std::process::id())
}
