//! Who is watched: the listener's book of targets and of the processes in them.
//!
//! The kernel's events know no cgroups. A child is where its parent is; whoever comes in another
//! way (written into `cgroup.procs`, cloned into the cgroup, nsenter) is found when it execs.

use std::{collections::HashMap, io};

use crate::{
    linux::{
        cgroup::{self, CgroupPath, Memberships, Relation},
        process::{identify, pid_namespace},
    },
    model::{FileId, ProcessKey},
    observe::{record::TargetId, source::Target},
};

/// How many processes are kept: as many as the kernel has pids by default. One beyond that is not
/// watched, and its exec or exit not told.
const MEMBERS_LIMIT: usize = 65_536;

/// A watched target, as numbered by the listener: clients' own numbers may be alike.
pub(super) type Slot = u64;

/// A watched target.
#[derive(Debug)]
pub(super) struct Watching {
    /// Attribution it is.
    pub(super) client: u64,
    /// What that client calls it.
    pub(super) id: TargetId,
    pub(super) target: Target,
    /// Of a cgroup.
    place: Option<CgroupPath>,
}

impl Watching {
    /// # Errors
    ///
    /// Why it cannot be watched.
    pub(super) fn new(client: u64, id: TargetId, target: Target) -> io::Result<Self> {
        let place = match &target {
            Target::Cgroup { path, .. } => Some(CgroupPath::of(path)?),
            Target::Tree { pid } => {
                if identify(*pid).is_none() {
                    return Err(nix::Error::ESRCH.into());
                }
                None
            }
        };
        Ok(Self { client, id, target, place })
    }

    /// Whether somebody came into the target without being born there.
    fn holds(
        &self,
        memberships: &Memberships,
        pid_namespace: impl FnOnce() -> Option<u32>,
    ) -> bool {
        let in_cgroup =
            self.place.as_ref().is_some_and(|place| place.relation(memberships).is_some());
        in_cgroup
            || match self.target {
                Target::Cgroup { pid_namespace: Some(namespace), .. } => {
                    pid_namespace() == Some(namespace)
                }
                _ => false,
            }
    }

    /// The id of somebody's cgroup where that is below the target's own.
    pub(super) fn nested(&self, memberships: &Memberships) -> Option<u64> {
        match self.place.as_ref()?.relation(memberships)? {
            Relation::Inside => None,
            Relation::Below(folder) => cgroup::id(&folder).ok(),
        }
    }
}

/// A process of at least one target.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: ProcessKey,
    /// When it was made, or last seen: its start is not known where that is 0.
    pub(super) slots: Vec<Slot>,
    pub(super) vpid: Option<i32>,
    pub(super) parent: ProcessKey,
    pub(super) outputs: [Option<FileId>; 2],
    /// The leader's status, where it ended and other threads live on.
    pub(super) leader_ended: Option<u32>,
}

/// Targets and processes.
#[derive(Debug, Default)]
pub(super) struct Members {
    next_slot: Slot,
    pub(super) targets: HashMap<Slot, Watching>,
    by_pid: HashMap<i32, Member>,
}

impl Members {
    pub(super) fn watch(&mut self, watching: Watching) -> Slot {
        self.next_slot += 1;
        self.targets.insert(self.next_slot, watching);
        self.next_slot
    }

    pub(super) fn unwatch(&mut self, slot: Slot) {
        self.targets.remove(&slot);
        self.forget_all_of(slot);
    }

    /// Nobody is known to be in a target: before its first look, and before one after a loss.
    pub(super) fn forget_all_of(&mut self, slot: Slot) {
        self.by_pid.retain(|_, member| {
            member.slots.retain(|other| *other != slot);
            !member.slots.is_empty()
        });
    }

    pub(super) fn get(&self, pid: i32) -> Option<&Member> {
        self.by_pid.get(&pid)
    }

    pub(super) fn get_mut(&mut self, pid: i32) -> Option<&mut Member> {
        self.by_pid.get_mut(&pid)
    }

    pub(super) fn remove(&mut self, pid: i32) -> Option<Member> {
        self.by_pid.remove(&pid)
    }

    /// Adds a process, or the targets that it was not known to be in.
    pub(super) fn insert(&mut self, member: Member) {
        let has_room = self.by_pid.len() < MEMBERS_LIMIT;
        match self.by_pid.get_mut(&member.key.pid) {
            Some(known) if known.key == member.key => {
                let new: Vec<_> =
                    member.slots.into_iter().filter(|slot| !known.slots.contains(slot)).collect();
                known.slots.extend(new);
            }
            Some(older) => *older = member,
            None if has_room => {
                self.by_pid.insert(member.key.pid, member);
            }
            None => {}
        }
    }

    /// Those known to be in a target.
    pub(super) fn known(&self, slot: Slot) -> Vec<ProcessKey> {
        self.by_pid
            .values()
            .filter(|member| member.slots.contains(&slot))
            .map(|member| member.key)
            .collect()
    }

    /// The targets that somebody who is not known is in.
    pub(super) fn found_in(&self, pid: i32, memberships: &Memberships) -> Vec<Slot> {
        let mut namespace = None;
        let mut of = || *namespace.get_or_insert_with(|| pid_namespace(pid));
        let mut slots: Vec<_> = self
            .targets
            .iter()
            .filter(|(_, target)| target.holds(memberships, &mut of))
            .map(|(slot, _)| *slot)
            .collect();
        slots.sort_unstable();
        slots
    }
}
