//! Scans a target for the processes that are alive.

use std::{collections::HashSet, io, path::Path, sync::Arc};

use crate::{
    clock::monotonic_ns,
    model::{Grade, ProcessKey},
    observe::{
        record::{Record, ScanStep, TargetId, What},
        source::Target,
    },
    platform::{
        cgroup,
        process::{self, Alive, identify},
    },
};

/// A scan failed. A failed scan returns no records, because an incomplete scan would make living
/// processes look dead.
#[derive(Debug, thiserror::Error)]
#[error("failed to scan the target's processes")]
pub struct ScanError(#[from] io::Error);

/// The processes that are alive in a target: [`ScanStep::Began`], one [`What::Alive`] for each
/// process (parents before children if they started in different clock ticks; with
/// [`Grade::Snapshot`]), and [`ScanStep::Ended`]. All but the last have the time at which the scan
/// began; the last has that at which it ended.
///
/// Zombies are not alive. A process that starts during the scan may or may not be in it.
///
/// `known` are the processes of the target that were known before. They are needed to find the
/// descendants in a tree that lost a parent, and the processes of a container that are outside its
/// cgroup.
///
/// # Errors
///
/// [`ScanError`] if the processes could not be listed, or if the target has 32 768 processes or
/// more, so that the scan cannot decide which are dead.
pub fn scan(id: TargetId, target: &Target, known: &[ProcessKey]) -> Result<Vec<Record>, ScanError> {
    let at_ns = monotonic_ns();
    let members = match target {
        Target::Cgroup { path, .. } => {
            let mut members = pids_of_cgroup(path)?;
            let inside: HashSet<i32> = members.iter().map(|(pid, _)| *pid).collect();
            // A process that entered only the pid namespace is in no cgroup of the target. The
            // start is compared too, because the pid may have been reused.
            let outside = known
                .iter()
                .filter(|key| !inside.contains(&key.pid) && identify(key.pid) == Some(**key));
            members.extend(outside.map(|key| (key.pid, None)));
            members
        }
        Target::Tree { pid } => {
            process::of_tree(*pid, known)?.into_iter().map(|pid| (pid, None)).collect()
        }
    };
    // The lists stop at the limit, so a process beyond it would look dead.
    if members.len() >= cgroup::MEMBERS_LIMIT {
        return Err(io::Error::from(io::ErrorKind::QuotaExceeded).into());
    }
    let known: HashSet<ProcessKey> = known.iter().copied().collect();
    let mut alive: Vec<_> = members
        .into_iter()
        .filter_map(|(pid, cgroup)| Some((alive(pid, &known)?, cgroup)))
        .collect();
    // Sorted by start, so that a parent is reported before its children.
    alive.sort_by_key(|(alive, _)| (alive.key.start, alive.key.pid));
    // A process that moves between two cgroups during the scan is listed in both.
    alive.dedup_by_key(|(alive, _)| alive.key);
    let records = alive.into_iter().map(|(Alive { key, lineage, image }, cgroup)| {
        let what = What::Alive { lineage, image: Arc::new(image), cgroup };
        Record::Process { target: id, at_ns, grade: Grade::Snapshot, key, provenance: None, what }
    });
    let mut all = vec![Record::Scan { target: id, at_ns, step: ScanStep::Began }];
    all.extend(records);
    all.push(Record::Scan { target: id, at_ns: monotonic_ns(), step: ScanStep::Ended });
    Ok(all)
}

/// A process that is alive. A known process is alive until its last thread has ended, because only
/// then is its exit recorded; an unknown process of which the image cannot be read any more is not
/// worth a report.
fn alive(pid: i32, known: &HashSet<ProcessKey>) -> Option<Alive> {
    process::alive(pid)
        .or_else(|| process::ending(pid).filter(|process| known.contains(&process.key)))
}

/// The pids of a cgroup and those below it, each with the id of its cgroup if that is a nested
/// cgroup. Empty if the cgroup was removed.
fn pids_of_cgroup(path: &Path) -> io::Result<Vec<(i32, Option<u64>)>> {
    match cgroup::members_by_cgroup(path) {
        Err(error)
            if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV)) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
