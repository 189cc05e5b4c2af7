//! The processes of a tree: finding them in `/proc`, adding them to the map, and removing them from
//! it.

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

/// How often at most `/proc` is read for the processes of a tree. Each round finds the processes
/// that were forked during the previous round by a process that was not yet in the map.
const ROUNDS: u32 = 8;

/// Adds a process and all its present descendants to the map of trees. The caller has added the
/// target to its map, and holds the lock.
pub(super) fn enter(pins: &Pins, id: TargetId, root: i32) -> Result<(), SourceError> {
    // Set before the first process is added: without this setting the eBPF programs would not add
    // the children of that process.
    pins.configure(|config| config.trees = 1)?;
    let mut entered = Vec::new();
    for _ in 0..ROUNDS {
        // The root is added alone in the first round, so that the eBPF programs add its new
        // children while `/proc` is read for the other processes.
        let found = if entered.is_empty() { vec![root] } else { present_tree(root) };
        let new: Vec<i32> = found.into_iter().filter(|pid| !entered.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            let key = pid.unsigned_abs().to_bytes();
            // The eBPF program may have added the process meanwhile, with the same value.
            pins.trees
                .update(&key, &id.0.to_bytes(), MapFlags::ANY)
                .map_err(refused("add a process to the eBPF map of trees"))?;
            // If the process ended before its entry was added, no exit event will delete the entry.
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
    // The lock keeps another shim from adding a tree before the setting `trees` is cleared below.
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
    // The setting belongs to the whole node, so it stays set while any tree has a process. Clearing
    // it saves a look-up at every fork and exit of the node.
    pins.configure(|config| config.trees = u32::from(has_others))
}

/// A process and all its present descendants. Empty if `/proc` cannot be read; the eBPF programs
/// still add the processes that are forked later.
fn present_tree(root: i32) -> Vec<i32> {
    of_tree(root, &[]).unwrap_or_default()
}

/// Whether a process has a thread that has not ended. Only in this case will the kernel report the
/// exit of the process. A zombie with more than one thread is a leader that ended before its other
/// threads.
pub(super) fn is_running(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.is_zombie() || stat.threads > 1)
}
