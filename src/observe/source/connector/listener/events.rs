//! The effects of one event of the kernel: changes of the members, and records for the clients.

use std::{os::fd::AsFd as _, sync::Arc};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{LOOKAHEAD, Listener, Readings};
use crate::{
    linux::process::{Status, identify, lineage_of, start_ticks_at},
    model::{Grade, Image, Lineage, ProcessKey, UnknownReason},
    observe::{
        record::What,
        source::connector::{
            members::{Member, Threads, Watch},
            netlink::Event,
            reading::{Reading, stat_if_born_before},
        },
    },
    sys::pidfd,
};

impl Listener {
    /// A process was forked. The child belongs to the targets of its parent.
    pub(super) fn on_fork(&mut self, at_ns: u64, parent: i32, child: i32, readings: &Readings) {
        let Some(from) = self.members.get(parent).cloned() else { return };
        // For a child that has exec'd in the same batch, `/proc` was already read.
        let (start_ticks, vpid) = match readings.get(&child) {
            Some((_, Some(reading))) => (Some(reading.stat.start_ticks), reading.status.vpid),
            _ => match stat_if_born_before(child, at_ns) {
                Some(stat) => (Some(stat.start_ticks), Status::of(child).vpid),
                None => (None, None),
            },
        };
        // If the child has already ended, the time of the event is used as its start time, which
        // can be one tick off. All records of the process have this same key.
        let key = ProcessKey::new(child, start_ticks.unwrap_or_else(|| start_ticks_at(at_ns)));
        // A scan may have found and reported the child before this event was received.
        let known = self
            .members
            .get(child)
            .filter(|known| known.key == key)
            .map(|known| known.watches.clone());
        let lineage = Lineage {
            vpid,
            parent: Some(from.key),
            grandparent_pid: from.parent.map(|grandparent| grandparent.pid),
        };
        for watch in from
            .watches
            .iter()
            .filter(|watch| !known.as_ref().is_some_and(|known| known.contains(watch)))
        {
            let grade = if start_ticks.is_some() { Grade::Late } else { Grade::Partial };
            self.report(*watch, at_ns, grade, key, What::Fork(lineage));
        }
        let member = Member {
            key,
            watches: from.watches,
            vpid,
            parent: Some(from.key),
            outputs: from.outputs,
            threads: Threads::default(),
        };
        self.members.insert(member);
    }

    /// A process made a thread.
    pub(super) fn on_thread(&mut self, pid: i32) {
        if let Some(member) = self.members.get_mut(pid) {
            member.threads.began();
        }
    }

    /// A process runs a new image. `reading` is `None` if the state of the process could not be
    /// read in time.
    pub(super) fn on_exec(&mut self, at_ns: u64, pid: i32, reading: Option<&Reading>) {
        let Some(mut member) = self.member_at_exec(pid, reading) else { return };
        // At an exec the kernel ends all other threads, and the calling thread takes the leader's
        // pid (`de_thread`, fs/exec.c). An earlier end of the leader is not the end of the process.
        member.threads = Threads::default();
        let (image, grade) = match reading {
            Some(reading) => (reading.image.clone(), reading.grade),
            None => (
                Image { unknown: Some(unread_reason(member.key)), ..Image::default() },
                Grade::Partial,
            ),
        };
        let lineage = self.lineage(&mut member, reading);
        if let Some(reading) = reading {
            member.vpid = reading.status.vpid.or(member.vpid);
            // The outputs of a process that is ending may already be closed, so the outputs from
            // before the exec are kept for it.
            if reading.grade == Grade::Late {
                member.outputs = reading.outputs;
            }
        }
        let in_host_mounts = reading
            .and_then(|it| it.mount_namespace)
            .zip(self.own_mount_namespace)
            .map(|(its, own)| its == own);
        let memberships = reading.and_then(|it| it.memberships.as_ref());
        let image = Arc::new(image);
        for watch in &member.watches {
            let nested_cgroup = |it: &Watch| it.nested_cgroup(memberships?);
            let cgroup = self.members.watches.get(watch).and_then(nested_cgroup);
            let what = What::Exec { lineage, image: Arc::clone(&image), cgroup, in_host_mounts };
            self.report(*watch, at_ns, grade, member.key, what);
        }
        // Removed first, because `insert` only adds watches to a present member, and keeps its
        // other fields.
        self.members.remove(pid);
        self.members.insert(member);
    }

    /// The member that execs. `None` if the process is in no target.
    fn member_at_exec(&self, pid: i32, reading: Option<&Reading>) -> Option<Member> {
        match (self.members.get(pid), reading) {
            // The exit of the member was lost, and another process has its pid now.
            (Some(known), Some(reading))
                if known.key != reading.key(pid) && known.key.start.is_some() => {}
            (Some(known), _) => return Some(known.clone()),
            (None, _) => {}
        }
        // No fork of the process in a target was seen, but it may have entered a target.
        let reading = reading?;
        let watches = self.members.watches_containing(pid, reading.memberships.as_ref()?);
        (!watches.is_empty()).then(|| Member {
            key: reading.key(pid),
            watches,
            vpid: reading.status.vpid,
            parent: None,
            outputs: reading.outputs,
            threads: Threads::default(),
        })
    }

    /// The lineage of a member at an exec. Also stores the parent if it has changed.
    fn lineage(&self, member: &mut Member, reading: Option<&Reading>) -> Lineage {
        let known = member.parent.map(|parent| parent.pid);
        if let Some(reading) =
            reading.filter(|it| it.stat.parent.is_some() && it.stat.parent != known)
        {
            let lineage = lineage_of(&reading.stat, reading.status.vpid);
            member.parent = lineage.parent;
            return lineage;
        }
        Lineage {
            vpid: reading.and_then(|reading| reading.status.vpid).or(member.vpid),
            parent: member.parent,
            grandparent_pid: known
                .and_then(|parent| self.members.get(parent)?.parent)
                .map(|grandparent| grandparent.pid),
        }
    }

    /// A thread ended. `later` are the events of the batch that follow.
    ///
    /// The process has ended only if its pidfd is readable: the leader can end before the other
    /// threads. The pidfd is always readable before this event arrives: `do_exit` calls
    /// `exit_notify`, which makes the pidfd readable, before `proc_exit_connector`, which makes the
    /// event.
    ///
    /// But the pidfd shows the present, and this event may be an earlier one of the process: if the
    /// leader ends, and then another thread execs or ends last. So the last event of the process
    /// decides.
    pub(super) fn on_exit(
        &mut self,
        at_ns: u64,
        pid: i32,
        thread: i32,
        status: u32,
        later: &[(u64, Event)],
    ) {
        let Some(member) = self.members.get_mut(pid) else { return };
        let Some(is_certain) = member.threads.ended(at_ns, thread == pid, status) else { return };
        let grade = if is_certain { Grade::Exact } else { Grade::Partial };
        if !has_ended(member.key) || self.has_later_event(pid, later) {
            return;
        }
        let Some(member) = self.members.remove(pid) else { return };
        for watch in &member.watches {
            let what = What::Exit {
                wait_status: Some(status),
                // The proc connector does not report this.
                oom_killed: false,
                outputs: member.outputs,
            };
            self.report(*watch, at_ns, grade, member.key, what);
        }
    }

    /// Whether the kernel has reported another exec or exit of a process that has ended. All its
    /// events have been made, so they are among `later` or can be received now.
    fn has_later_event(&mut self, pid: i32, later: &[(u64, Event)]) -> bool {
        // An error is received again in the next iteration.
        self.has_lost_events |= self.receive_events(LOOKAHEAD).unwrap_or_default();
        for (_, event) in later.iter().chain(&self.pending) {
            match *event {
                Event::Exec { pid: of } | Event::Exit { pid: of, .. } if of == pid => return true,
                // A younger process has the pid.
                Event::Fork { child, .. } if child == pid => return false,
                _ => {}
            }
        }
        false
    }
}

/// The reason why an exec has no reading. If the process still exists, it has exec'd again.
fn unread_reason(key: ProcessKey) -> UnknownReason {
    if identify(key.pid) == Some(key) { UnknownReason::Replaced } else { UnknownReason::Gone }
}

/// Whether the whole thread group has ended. Called for an exit event: the process that has this
/// pid now is either the process of the event, or a younger one. In the second case the process of
/// the event was reaped.
fn has_ended(key: ProcessKey) -> bool {
    let fd = match pidfd::open(key.pid) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return true,
        // No descriptor is available. A zombie counts as alive here, because it may have other
        // threads: its exit is reported when the last of them ends.
        Err(_) => return identify(key.pid) != Some(key),
    };
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        || identify(key.pid) != Some(key)
}
