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

/// The processes of the node and their parents, as one scan of `/proc` has found them.
#[cfg(feature = "cli")]
#[derive(Debug, Default)]
pub struct ProcessTable {
    processes: HashMap<i32, (ProcessKey, Option<i32>)>,
}

#[cfg(feature = "cli")]
impl ProcessTable {
    /// Reads the `stat` of every process of the node.
    ///
    /// # Errors
    ///
    /// The error of listing `/proc`.
    pub fn read() -> io::Result<Self> {
        let process = |pid| {
            let stat = Stat::of(pid)?;
            Some((pid, (ProcessKey { pid, start: stat.start() }, stat.parent)))
        };
        Ok(Self { processes: pids()?.into_iter().filter_map(process).collect() })
    }

    /// Every process that descends from one of `roots`, with the value of the nearest such
    /// ancestor. The roots themselves are left out. In no order.
    #[must_use]
    pub fn nearest<T: Copy>(&self, roots: &HashMap<ProcessKey, T>) -> Vec<(ProcessKey, T)> {
        // The value of each pid that was asked for already, so that each edge is walked once.
        let mut known: HashMap<i32, Option<T>> = HashMap::new();
        let mut found = Vec::new();
        for (pid, (key, _)) in &self.processes {
            let mut path = Vec::new();
            let mut next = Some(*pid);
            let value = loop {
                let Some(pid) = next else { break None };
                if let Some(value) = known.get(&pid) {
                    break *value;
                }
                let Some((key, parent)) = self.processes.get(&pid) else { break None };
                if let Some(value) = roots.get(key) {
                    break Some(*value);
                }
                // Read at different moments, pids that were reused could form a circle.
                if path.contains(&pid) {
                    break None;
                }
                path.push(pid);
                next = *parent;
            };
            known.extend(path.into_iter().map(|pid| (pid, value)));
            found.extend(value.filter(|_| !roots.contains_key(key)).map(|value| (*key, value)));
        }
        found
    }
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
