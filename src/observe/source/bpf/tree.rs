//! The processes of a tree, as `/proc` has them.

use std::collections::HashMap;

/// A process and all that descends from it, as they are now.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for stat in procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|one| one.stat().ok())
    {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // Removed, so that a loop ends: a pid that was reused while we read can be its own
        // ancestor.
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Whether a process has a thread that has not ended: only then the kernel will tell its end. A
/// zombie with threads is a leader that ended first.
pub(super) fn runs(pid: i32) -> bool {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state != 'Z' || stat.num_threads > 1)
}
