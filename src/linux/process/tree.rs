//! The processes of the node, and the descendants of a process.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use super::{super::cgroup::MEMBERS_LIMIT, stat::Stat};
use crate::model::ProcessKey;

/// The pids of all processes of the node, in no order.
///
/// # Errors
///
/// The error of listing `/proc`.
pub fn pids() -> io::Result<Vec<i32>> {
    let pid = |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Ok),
        Err(error) => Some(Err(error)),
    };
    fs::read_dir("/proc")?.filter_map(pid).collect()
}

/// The pids of `root`, of the processes of `known` that still exist, and of all descendants of
/// these processes, including zombies, `root` first. Reads the `stat` of every process of the node.
///
/// # Errors
///
/// The error of listing `/proc`.
pub fn of_tree(root: i32, known: &[ProcessKey]) -> io::Result<Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut starts = HashMap::new();
    for pid in pids()? {
        let Some(stat) = Stat::of(pid) else { continue };
        if let Some(parent) = stat.parent {
            children.entry(parent).or_default().push(pid);
        }
        starts.insert(pid, stat.start());
    }
    let still =
        known.iter().filter(|key| starts.get(&key.pid) == Some(&key.start)).map(|key| key.pid);
    // Only the first scan begins at the pid of the root. Later, `known` has the root with its
    // start, while its pid may belong to another process.
    let first = Some(root).filter(|root| known.is_empty() && starts.contains_key(root));
    let mut left: Vec<i32> = first.into_iter().chain(still).collect();
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    while let Some(pid) = left.pop() {
        // A process may be in `known` and also be a descendant of another process in `known`.
        if !seen.insert(pid) {
            continue;
        }
        if found.len() >= MEMBERS_LIMIT {
            break;
        }
        found.push(pid);
        left.extend(children.get(&pid).into_iter().flatten());
    }
    Ok(found)
}
