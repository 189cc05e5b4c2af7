//! Adds the processes that exist when a target is watched to the map of members. The eBPF programs
//! add those that follow, and remove each process when it exits.

use std::path::Path;

use libbpf_rs::{MapCore as _, MapFlags};

use super::{
    layout::{Member, Plain as _, TargetValue, member_flag},
    pins::{Pins, map_value, own_pid_namespace},
    refused,
};
use crate::{
    linux::{
        cgroup::members_by_cgroup,
        process::{Stat, of_tree},
    },
    model::ProcessKey,
    observe::{record::TargetId, source::SourceError},
};

/// How often `/proc` is read at most for the processes of a tree. Each round finds the processes
/// that were forked during the previous round by a process that was not yet in the map.
const PROC_READS_MAX: u32 = 8;

/// Adds a process and all its present descendants to the map of members. The caller has added the
/// target to its map.
pub(super) fn add_tree(pins: &Pins, id: TargetId, root: i32) -> Result<(), SourceError> {
    let mut added = Vec::new();
    for _ in 0..PROC_READS_MAX {
        // The root is added alone in the first round, so that the eBPF programs add its new
        // children while `/proc` is read for the other processes. If `/proc` cannot be read, the
        // programs still add the processes that are forked later.
        let found =
            if added.is_empty() { vec![root] } else { of_tree(root, &[]).unwrap_or_default() };
        let new: Vec<i32> = found.into_iter().filter(|pid| !added.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            add_process(pins, id, pid, None)?;
            added.push(pid);
        }
    }
    Ok(())
}

/// Adds the present processes of a cgroup and of the cgroups below it to the map of members, so
/// that they stay with the target if they are moved. The caller has added the target to its map.
/// Leaves out what a runtime call other than `of_call` is making.
pub(super) fn add_cgroup(
    pins: &Pins,
    id: TargetId,
    path: &Path,
    of_call: Option<u64>,
) -> Result<(), SourceError> {
    // The keys of `members` are pids of the initial namespace, which are not known in another
    // namespace. There the processes become members at their next exec, and their children at
    // once.
    if own_pid_namespace() != 0 {
        return Ok(());
    }
    for (pid, _) in members_by_cgroup(path).unwrap_or_default() {
        add_process(pins, id, pid, of_call)?;
    }
    Ok(())
}

/// Adds those processes of a cgroup that were made by the runtime call that made `init`: see
/// [`Source::add_created`](crate::observe::source::Source::add_created).
pub(super) fn add_created(
    pins: &Pins,
    id: TargetId,
    path: &Path,
    init: i32,
) -> Result<(), SourceError> {
    let member = map_value::<_, Member>(&pins.members, &init.unsigned_abs())?;
    match member.map(|member| member.call).filter(|call| *call != 0) {
        Some(call) => add_cgroup(pins, id, path, Some(call)),
        None => Ok(()),
    }
}

/// Adds one process to the map of members, unless another container keeps it, or a runtime call
/// other than `of_call` does.
fn add_process(
    pins: &Pins,
    id: TargetId,
    pid: i32,
    of_call: Option<u64>,
) -> Result<(), SourceError> {
    let before = map_value::<_, Member>(&pins.members, &pid.unsigned_abs())?;
    // A container that the process belongs to keeps it, as in `choose_target()` of `bpf/target.h`.
    // A tree gives it up.
    if before.as_ref().is_some_and(|before| {
        is_in_container(pins, before) || (is_withheld(pins, before) && of_call != Some(before.call))
    }) {
        return Ok(());
    }
    let kept = member_flag::IN_ENTRIES | member_flag::SPAWNS;
    let member = Member {
        target: id.0,
        flags: before.as_ref().map_or(0, |before| before.flags & kept),
        ..Member::default()
    };
    let key = pid.unsigned_abs().to_bytes();
    // An entry that a program has made since the read above is the better one.
    let flags = if before.is_some() { MapFlags::ANY } else { MapFlags::NO_EXIST };
    match pins.members.update(&key, &member.to_bytes(), flags) {
        Err(error) if error.kind() == libbpf_rs::ErrorKind::AlreadyExists => return Ok(()),
        updated => updated.map_err(refused("add a process to the eBPF map of members"))?,
    }
    // If the process ended before its entry was added, no exit will delete the entry.
    if !is_running(pid) {
        let _ = pins.members.delete(&key);
    }
    Ok(())
}

/// Whether a scan for the target `id` must leave a process out: see
/// [`Source::is_kept_from`](crate::observe::source::Source::is_kept_from). False in a pid namespace
/// other than the initial one: the keys of the map are pids of the initial namespace.
pub(super) fn is_kept_from(pins: &Pins, id: TargetId, process: ProcessKey) -> bool {
    if own_pid_namespace() != 0 {
        return false;
    }
    let member = map_value::<_, Member>(&pins.members, &process.pid.unsigned_abs());
    let Ok(Some(member)) = member else { return false };
    // The entry may be that of an earlier process with this pid. An entry that a shim has made has
    // no start to compare.
    let is_it = ProcessKey::from_boottime(process.pid, member.start_ns).may_be_same(process);
    is_it
        && (is_withheld(pins, &member) || (member.target != id.0 && is_in_container(pins, &member)))
}

/// Whether an entry is that of a process of a runtime call that lasts and has no target yet: the
/// same as `process_is_withheld()` of `bpf/target.h`.
fn is_withheld(pins: &Pins, member: &Member) -> bool {
    member.call != 0
        && member.target == 0
        && map_value::<u64, u32>(&pins.calls, &member.call).is_ok_and(|slot| slot.is_some())
}

/// Whether an entry belongs to a container that is watched now.
fn is_in_container(pins: &Pins, member: &Member) -> bool {
    map_value::<_, TargetValue>(&pins.targets, &member.target)
        .is_ok_and(|target| target.is_some_and(|target| target.is_tree == 0))
}

/// Whether a process has a thread that has not ended.
pub(super) fn is_running(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.has_running_thread())
}
