//! The watched targets and the processes in them.
//!
//! The kernel's events have no cgroups. A child belongs to the targets of its parent. A process
//! that enters a target in another way (written into `cgroup.procs`, cloned into the cgroup,
//! nsenter) is found when it execs.

use std::{collections::HashMap, io};

use crate::{
    linux::{
        cgroup::{self, CgroupPath, Memberships, Relation},
        process::{Stat, identify, pid_namespace},
    },
    model::{FileId, ProcessKey},
    observe::{record::TargetId, source::Target},
};

/// How many processes are kept: twice the kernel's default limit of pids (`PID_MAX_DEFAULT`). A
/// further process is not watched, and its exec and exit are not reported.
const MEMBERS_LIMIT: usize = 65_536;

/// The listener's number of a watch, from 1 and never reused. The [`TargetId`]s of two clients can
/// be equal, so they do not identify a watch.
pub(super) type WatchId = u64;

/// One client's watch of one target.
#[derive(Debug)]
pub(super) struct Watch {
    /// The listener's number of the client.
    pub(super) client: u64,
    /// The client's id of the target.
    pub(super) id: TargetId,
    pub(super) target: Target,
    /// The target's cgroup; `None` for a process tree.
    cgroup: Option<CgroupPath>,
}

impl Watch {
    /// A watch of `target`, which must exist.
    ///
    /// # Errors
    ///
    /// Those of [`CgroupPath::of`]; `ESRCH` if the root of a tree does not exist.
    pub(super) fn new(client: u64, id: TargetId, target: Target) -> io::Result<Self> {
        let cgroup = match &target {
            Target::Cgroup { path, .. } => Some(CgroupPath::of(path)?),
            Target::Tree { pid } => {
                if identify(*pid).is_none() {
                    return Err(nix::Error::ESRCH.into());
                }
                None
            }
        };
        Ok(Self { client, id, target, cgroup })
    }

    /// Whether a process that is not yet a member is in the target. Always false for a process
    /// tree, because a process is in a tree only if it was forked there.
    fn contains(
        &self,
        memberships: &Memberships,
        its_namespace: impl FnOnce() -> Option<u32>,
    ) -> bool {
        let in_cgroup =
            self.cgroup.as_ref().is_some_and(|cgroup| cgroup.relation(memberships).is_some());
        // A process that nsenter started in the container's pid namespace keeps the cgroup of its
        // parent. Its namespace is read only if the cgroup does not decide.
        in_cgroup
            || match self.target {
                Target::Cgroup { pid_namespace: Some(namespace), .. } => {
                    // After the end of a namespace, another one may get its number.
                    its_namespace() == Some(namespace.inode)
                        && pid_namespace(namespace.pid) == Some(namespace.inode)
                }
                _ => false,
            }
    }

    /// The id of a process's cgroup if that is nested in the target's cgroup. `None` if the process
    /// is in the target's cgroup itself or outside of it.
    pub(super) fn nested_cgroup(&self, memberships: &Memberships) -> Option<u64> {
        match self.cgroup.as_ref()?.relation(memberships)? {
            Relation::Inside => None,
            Relation::Below(directory) => cgroup::id(&directory).ok(),
        }
    }
}

/// A process of at least one target.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// The identity of the process. The start is computed from the time of the fork if it could
    /// not be read.
    pub(super) key: ProcessKey,
    /// The watches of the targets that the process is in; not empty.
    pub(super) watches: Vec<WatchId>,
    /// The pid of the process in its own pid namespace; `None` if it could not be read.
    pub(super) vpid: Option<i32>,
    /// The parent when it was last read; `None` if it is not known.
    pub(super) parent: Option<ProcessKey>,
    /// The files of stdout and stderr: inherited at the fork, read again at each exec.
    pub(super) outputs: [Option<FileId>; 2],
    /// Its threads since the last exec.
    pub(super) threads: Threads,
}

/// The threads of a process. Which of them ends last decides the status of the process, and the
/// events of threads that end at about the same time may arrive in another order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Threads {
    /// How many threads run in addition to the leader, by the events. Wrong after a loss of events.
    living: i32,
    /// The wait status of the thread group's leader, if the leader has ended.
    leader: Option<u32>,
    /// When the last other thread ended before the leader, and the wait status of those that ended
    /// at about that time; `None` if they had different ones.
    others: Option<(u64, Option<u32>)>,
}

/// Within this time the events of two threads may arrive in another order than that in which the
/// threads ended, in nanoseconds.
const SAME_TIME_NS: u64 = 1_000_000_000;

impl Threads {
    /// Those of a process that is found running.
    pub(super) fn of(process: &Stat) -> Self {
        let living = i32::try_from(process.threads).unwrap_or(i32::MAX).saturating_sub(1);
        Self { living, ..Self::default() }
    }

    /// A thread was made.
    pub(super) fn began(&mut self) {
        self.living = self.living.saturating_add(1);
    }

    /// A thread has ended. If the process may have ended with it, returns whether `status` is
    /// certainly that of the process.
    pub(super) fn ended(&mut self, at_ns: u64, is_leader: bool, status: u32) -> Option<bool> {
        if !is_leader {
            self.living = self.living.saturating_sub(1);
        }
        let recent = self.others.filter(|(ended, _)| at_ns.saturating_sub(*ended) < SAME_TIME_NS);
        let is_same = recent.is_none_or(|(_, others)| others == Some(status));
        match self.leader {
            _ if is_leader => self.leader = Some(status),
            // The leader still runs, so the end of another thread is not the end of the process.
            None => {
                self.others = Some((at_ns, is_same.then_some(status)));
                return None;
            }
            Some(_) => {}
        }
        Some(self.living == 0 && is_same && self.leader == Some(status))
    }
}

/// All watches, and all processes in their targets.
#[derive(Debug, Default)]
pub(super) struct Members {
    last_watch: WatchId,
    pub(super) watches: HashMap<WatchId, Watch>,
    by_pid: HashMap<i32, Member>,
}

impl Members {
    pub(super) fn add_watch(&mut self, watch: Watch) -> WatchId {
        self.last_watch += 1;
        self.watches.insert(self.last_watch, watch);
        self.last_watch
    }

    pub(super) fn remove_watch(&mut self, watch: WatchId) {
        self.watches.remove(&watch);
        self.forget_members(watch);
    }

    /// The watches of one client.
    pub(super) fn watches_of(&self, client: u64) -> impl Iterator<Item = (WatchId, &Watch)> {
        let watches = self.watches.iter().map(|(number, watch)| (*number, watch));
        watches.filter(move |(_, watch)| watch.client == client)
    }

    /// Removes all processes from one target. The scan that follows adds the living processes
    /// again.
    pub(super) fn forget_members(&mut self, watch: WatchId) {
        // A process can be in the targets of several watches, for example of two clients.
        self.by_pid.retain(|_, member| {
            member.watches.retain(|other| *other != watch);
            !member.watches.is_empty()
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

    /// Adds a process. If it is a member already, only adds the watches that the member does not
    /// have yet.
    pub(super) fn insert(&mut self, member: Member) {
        let has_capacity = self.by_pid.len() < MEMBERS_LIMIT;
        match self.by_pid.get_mut(&member.key.pid) {
            Some(known) if known.key == member.key => {
                let new: Vec<_> = member
                    .watches
                    .into_iter()
                    .filter(|watch| !known.watches.contains(watch))
                    .collect();
                known.watches.extend(new);
            }
            // The pid was reused, and the exit of its former owner was not seen.
            Some(former) => *former = member,
            // At the limit a new process is left out, and no known process is removed for it.
            None if has_capacity => {
                self.by_pid.insert(member.key.pid, member);
            }
            None => {}
        }
    }

    /// The members of one target.
    pub(super) fn keys_of(&self, watch: WatchId) -> Vec<ProcessKey> {
        self.by_pid
            .values()
            .filter(|member| member.watches.contains(&watch))
            .map(|member| member.key)
            .collect()
    }

    /// The watches of the targets that contain a process that is not yet a member, sorted.
    pub(super) fn watches_containing(&self, pid: i32, memberships: &Memberships) -> Vec<WatchId> {
        // The namespace is read at most once, and only if a target needs it, because this function
        // runs at every exec of the node.
        let mut namespace = None;
        let mut read_namespace = || *namespace.get_or_insert_with(|| pid_namespace(pid));
        let mut watches: Vec<_> = self
            .watches
            .iter()
            .filter(|(_, watch)| watch.contains(memberships, &mut read_namespace))
            .map(|(number, _)| *number)
            .collect();
        watches.sort_unstable();
        watches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::source::PidNamespace;

    /// Check that a process with the number of a target's pid namespace is in the target only while
    /// the first process of the namespace shows that the number is still that namespace's.
    #[test]
    fn a_namespace_that_has_ended_contains_nothing() {
        let own = i32::try_from(std::process::id()).unwrap();
        let inode = pid_namespace(own).unwrap();
        let is_contained = |pid: i32| {
            let target = Target::Cgroup {
                path: "/nowhere".into(),
                pid_namespace: Some(PidNamespace { inode, pid }),
            };
            let watch = Watch { client: 1, id: TargetId(1), target, cgroup: None };
            watch.contains(&Memberships::of(own).unwrap(), || pid_namespace(own))
        };
        assert!(is_contained(own));
        // Greater than any pid.
        assert!(!is_contained(i32::MAX));
    }

    const LEADER: bool = true;
    const OTHER: bool = false;

    /// Whether the status of each end of a thread is certain. The ends are a microsecond apart.
    fn ends(threads: u32, ends: &[(bool, u32)]) -> Vec<Option<bool>> {
        let mut all = Threads::default();
        (0..threads).for_each(|_| all.began());
        let ends = ends.iter().zip(0..);
        ends.map(|(&(is_leader, status), at)| all.ended(at * 1000, is_leader, status)).collect()
    }

    /// Check that the status is certain if every thread has ended with it, in any order.
    #[test]
    fn a_status_that_all_threads_have_is_certain() {
        assert_eq!(ends(0, &[(LEADER, 3)]), [Some(true)]);
        assert_eq!(ends(1, &[(LEADER, 3), (OTHER, 3)]), [Some(false), Some(true)]);
        assert_eq!(ends(1, &[(OTHER, 3), (LEADER, 3)]), [None, Some(true)]);
    }

    /// Check that a status is not certain while a thread is missing, of which the event may follow.
    #[test]
    fn a_status_without_the_end_of_each_thread_is_not_certain() {
        assert_eq!(ends(2, &[(LEADER, 0), (OTHER, 0)]), [Some(false), Some(false)]);
        assert_eq!(ends(2, &[(OTHER, 0), (LEADER, 0)]), [None, Some(false)]);
    }

    /// Check that threads that end at the same time with different statuses leave it open which is
    /// that of the process, and that a thread that ended earlier does not.
    #[test]
    fn different_statuses_at_the_same_time_are_not_certain() {
        assert_eq!(ends(1, &[(OTHER, 9), (LEADER, 0)]), [None, Some(false)]);
        assert_eq!(ends(1, &[(LEADER, 0), (OTHER, 9)]), [Some(false), Some(false)]);
        let all = ends(2, &[(OTHER, 9), (OTHER, 0), (LEADER, 0)]);
        assert_eq!(all, [None, None, Some(false)]);
        let mut threads = Threads::default();
        threads.began();
        assert_eq!(threads.ended(0, OTHER, 9), None);
        assert_eq!(threads.ended(SAME_TIME_NS, LEADER, 0), Some(true));
    }
}
