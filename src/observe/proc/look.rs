//! A look: everybody who is alive in a target now.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    sync::Arc,
};

use super::{
    cgroup::{MEMBERS_LIMIT, members_with_place},
    image::{image_of, judged},
    stat::{Stat, identify, lineage_of},
};
use crate::{
    clock::monotonic_ns,
    model::{Grade, ProcessKey},
    observe::{
        record::{Record, TargetId, What},
        source::Target,
    },
};

/// Why a look could not be had. No record then: an incomplete look would declare the living dead.
#[derive(Debug, thiserror::Error)]
#[error("failed to look at the target's processes")]
pub struct LookError(#[from] io::Error);

/// What is alive in a target now: [`What::LookBegan`], one [`What::Alive`] for each process
/// (parents before children where both began in different clock ticks), [`What::LookEnded`]. All
/// have [`Grade::Snapshot`] and the time of the look's beginning.
///
/// Zombies are not alive. A process that is born during the look may or may not be in it.
///
/// # Errors
///
/// [`LookError`]: nobody could be asked; or the target has more than 32 768 processes, so that a
/// look could not say who is dead.
pub fn look(id: TargetId, target: &Target) -> Result<Vec<Record>, LookError> {
    look_after(id, target, &[])
}

/// As [`look`]; `known` are the processes of the target as they were known before: with them those
/// of a tree are found whose parents have ended, and those of a container that are not in its
/// cgroup.
pub(in crate::observe) fn look_after(
    id: TargetId,
    target: &Target,
    known: &[ProcessKey],
) -> Result<Vec<Record>, LookError> {
    let at_ns = monotonic_ns();
    let about =
        |key, what| Record::Process { target: id, at_ns, grade: Grade::Snapshot, key, what };
    let nobody = ProcessKey { pid: 0, start_ticks: 0 };
    let members = match target {
        Target::Cgroup { path, .. } => {
            let mut members = of_cgroup(path)?;
            let inside: HashSet<i32> = members.iter().map(|(pid, _)| *pid).collect();
            // Who came into the pid namespace alone is in no cgroup of the target.
            let outside = known
                .iter()
                .filter(|key| !inside.contains(&key.pid) && identify(key.pid) == Some(**key));
            members.extend(outside.map(|key| (key.pid, None)));
            members
        }
        Target::Tree { pid } => {
            processes_of_tree(*pid, known)?.into_iter().map(|pid| (pid, None)).collect()
        }
    };
    if members.len() >= MEMBERS_LIMIT {
        return Err(io::Error::from(io::ErrorKind::QuotaExceeded).into());
    }
    let mut alive: Vec<_> =
        members.into_iter().filter_map(|(pid, cgroup)| alive(pid, cgroup)).collect();
    alive.sort_by_key(|(key, _)| (key.start_ticks, key.pid));
    alive.dedup_by_key(|(key, _)| *key);
    let records = alive.into_iter().map(|(key, what)| about(key, what));
    Ok([about(nobody, What::LookBegan)]
        .into_iter()
        .chain(records)
        .chain([about(nobody, What::LookEnded)])
        .collect())
}

/// Nobody is in a cgroup that is gone.
fn of_cgroup(path: &Path) -> io::Result<Vec<(i32, Option<u64>)>> {
    match members_with_place(path) {
        Err(error)
            if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV)) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// One process, checked afterwards to be still the same.
fn alive(pid: i32, cgroup: Option<u64>) -> Option<(ProcessKey, What)> {
    let before = Stat::of(pid).filter(|stat| !stat.is_dead())?;
    let (image, status) = image_of(pid, &before);
    let lineage = lineage_of(&before, status.vpid);
    let after = Stat::of(pid)
        .filter(|after| after.start_ticks == before.start_ticks && !after.is_dead())?;
    let (image, _) = judged(image, &after);
    let key = ProcessKey { pid, start_ticks: before.start_ticks };
    Some((key, What::Alive { lineage, image: Arc::new(image), cgroup }))
}

/// Every process of the node.
///
/// # Errors
///
/// What the listing of `/proc` answered.
pub fn pids() -> io::Result<Vec<i32>> {
    let pid = |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Ok),
        Err(error) => Some(Err(error)),
    };
    fs::read_dir("/proc")?.filter_map(pid).collect()
}

/// The pids of `root` and of all that descends from it or from one of `known` that still lives,
/// zombies included, `root` first. Reads the `stat` of every process of the node.
///
/// # Errors
///
/// What the listing of `/proc` answered.
pub fn processes_of_tree(root: i32, known: &[ProcessKey]) -> io::Result<Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut starts = HashMap::new();
    for pid in pids()? {
        let Some(stat) = Stat::of(pid) else { continue };
        children.entry(stat.parent).or_default().push(pid);
        starts.insert(pid, stat.start_ticks);
    }
    let still = known
        .iter()
        .filter(|key| starts.get(&key.pid) == Some(&key.start_ticks))
        .map(|key| key.pid);
    // Once it was looked at, the root is among the known; its pid alone may be anybody's by now.
    let first = Some(root).filter(|root| known.is_empty() && starts.contains_key(root));
    let mut left: Vec<i32> = first.into_iter().chain(still).collect();
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    while let Some(pid) = left.pop() {
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
