//! The processes of a tree: finding them in `/proc`, entering them into the map, removing them.

use libbpf_rs::{MapCore as _, MapFlags};

use super::{
    layout::Plain as _,
    pins::{Pins, entries},
    refused,
};
use crate::{
    linux::process::{Stat, of_tree},
    observe::{record::TargetId, source::SourceError},
};

/// How often `/proc` is read for the processes of a tree at most. Each round finds the processes
/// that were forked during the round before by a process that was not yet entered.
const ROUNDS: u32 = 8;

/// Enters a process and all its present descendants as a target. The caller has entered the target
/// and holds the lock.
pub(super) fn enter(pins: &Pins, id: TargetId, root: i32) -> Result<(), SourceError> {
    // Before the first process is entered: without it the programs would not enter its children.
    pins.configure(|config| config.trees = 1)?;
    let mut entered = Vec::new();
    for _ in 0..ROUNDS {
        // The root alone first: its new children are then entered by the kernel while `/proc` is
        // read for the others.
        let found = if entered.is_empty() { vec![root] } else { present_tree(root) };
        let new: Vec<i32> = found.into_iter().filter(|pid| !entered.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            let key = pid.unsigned_abs().to_bytes();
            // The program may have entered the process meanwhile, with the same value.
            pins.trees
                .update(&key, &id.0.to_bytes(), MapFlags::ANY)
                .map_err(refused("enter a process"))?;
            // If it ended before the line above, no exit will delete the entry.
            if !is_running(pid) {
                let _ = pins.trees.delete(&key);
            }
            entered.push(pid);
        }
    }
    Ok(())
}

/// Removes the processes and sockets of a tree from the maps.
pub(super) fn forget(pins: &Pins, id: TargetId) -> Result<(), SourceError> {
    // The lock keeps another shim from entering a tree before `trees` is cleared below.
    let _lock = pins.lock()?;
    let mut has_others = false;
    for (tgid, tree) in entries::<u32, u64>(&pins.trees) {
        if tree == id.0 {
            let _ = pins.trees.delete(&tgid.to_bytes());
        } else {
            has_others = true;
        }
    }
    for (cookie, tree) in entries::<u64, u64>(&pins.listeners) {
        if tree == id.0 {
            let _ = pins.listeners.delete(&cookie.to_bytes());
        }
    }
    // The setting is the whole node's, so it stays while any tree has a process. Without it every
    // fork and exit of the node is spared a look-up.
    pins.configure(|config| config.trees = u32::from(has_others))
}

/// A process and all its present descendants. None if `/proc` cannot be read: the programs enter
/// the processes that are forked from now on by themselves.
fn present_tree(root: i32) -> Vec<i32> {
    of_tree(root, &[]).unwrap_or_default()
}

/// Whether a process has a thread that has not ended. Only then will the kernel report its exit. A
/// zombie with more than one thread is a leader that ended before its other threads.
pub(super) fn is_running(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.is_zombie() || stat.threads > 1)
}
