//! The node's one listener: a process of its own that serves every shim.
//!
//! ```text
//!  kernel ── every fork, exec, exit of the node ──▶ listener ── each shim's own ──▶ connector.sock
//!                                                      │
//!                                     /proc/PID at each exec of a watched process
//! ```
//!
//! A turn takes what the kernel has told, reads `/proc` for the execs first (those processes may be
//! gone in 100 µs), looks whether the kernel has told more meanwhile, and only then makes records.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    client::Client,
    members::{Member, Members, Slot, Watching},
    netlink::{Connector, Event, Message, is_overrun},
    reading::{Reading, born_before},
    wire::{Answer, Request, VERSION},
};
use crate::{
    clock::monotonic_ns,
    linux::{
        cgroup::Memberships,
        process::{Status, identify, lineage_of, mount_namespace, outputs, start_ticks_at},
    },
    model::{Grade, Image, Lineage, ProcessKey, Stage, Unknown},
    observe::{
        record::{Record, What},
        source::{Target, scan::scan},
    },
    sys::pidfd,
};

/// How many messages one turn takes. The rest waits in the kernel's buffer.
const TURN: usize = 256;

/// How many targets one client can have. More are refused with `ENOSPC`.
const TARGETS_LIMIT: usize = 4096;

/// The events, the clients and what is known between them.
#[derive(Debug)]
pub(super) struct Listener {
    connector: Connector,
    members: Members,
    clients: HashMap<u64, Client>,
    next_client: u64,
    /// Emission by the kernel, not yet looked at.
    pending: Vec<(u64, Event)>,
    own_mounts: Option<u32>,
}

impl Listener {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            members: Members::default(),
            clients: HashMap::new(),
            next_client: 0,
            pending: Vec::new(),
            own_mounts: mount_namespace(std::process::id().cast_signed()),
        }
    }

    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.connector.as_fd()
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.clients.iter().map(|(number, client)| (*number, client.fd()))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.clients.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn admit(&mut self, client: Client) {
        self.next_client += 1;
        self.clients.insert(self.next_client, client);
    }

    /// Takes what a client says; one that breaks the rules, or has gone, is forgotten.
    pub(super) fn hear(&mut self, number: u64) {
        let Some(requests) = self.clients.get_mut(&number).and_then(Client::requests) else {
            return self.forget(number);
        };
        for request in requests {
            match request {
                Request::Hello { version } => {
                    self.say(number, &Answer::Ready { version: VERSION });
                    if version != VERSION {
                        self.flush(number);
                        return self.forget(number);
                    }
                }
                Request::Watch { id, target } => {
                    let answer = match self.watch(number, id, target) {
                        Ok(()) => Answer::Watched { id },
                        Err(error) => Answer::Refused {
                            id,
                            errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL),
                        },
                    };
                    self.say(number, &answer);
                }
                Request::Unwatch { id } => {
                    let slots = self.members.targets.iter();
                    let slot = slots
                        .filter(|(_, it)| it.client == number && it.id == id)
                        .map(|(slot, _)| *slot)
                        .max();
                    if let Some(slot) = slot {
                        self.members.unwatch(slot);
                    }
                }
            }
        }
        self.flush(number);
    }

    fn watch(
        &mut self,
        number: u64,
        id: crate::observe::record::TargetId,
        target: Target,
    ) -> io::Result<()> {
        if self.members.targets.values().filter(|it| it.client == number).count() >= TARGETS_LIMIT {
            return Err(nix::Error::ENOSPC.into());
        }
        let watching = Watching::new(number, id, target)?;
        let slot = self.members.watch(watching);
        self.look(slot);
        Ok(())
    }

    fn forget(&mut self, number: u64) {
        self.clients.remove(&number);
        let slots: Vec<_> = self
            .members
            .targets
            .iter()
            .filter(|(_, it)| it.client == number)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in slots {
            self.members.unwatch(slot);
        }
    }

    /// One turn: what the kernel has told becomes records.
    ///
    /// # Errors
    ///
    /// What the socket of the connector answered, but for a loss.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let mut lost = self.take_messages()?;
        let events = std::mem::take(&mut self.pending);
        if !self.members.targets.is_empty() {
            let mut readings = self.read_execs(&events);
            // An exec that the kernel has told of since makes the readings before it the newer
            // one's.
            lost |= self.take_messages()?;
            for (_, event) in &self.pending {
                if let Event::Exec { pid } = event
                    && let Some((_, reading)) = readings.get_mut(pid)
                {
                    *reading = None;
                }
            }
            for (index, (at_ns, event)) in events.iter().enumerate() {
                match *event {
                    Event::Fork { parent, child } => self.forked(*at_ns, parent, child, &readings),
                    Event::Exec { pid } => {
                        let newest = readings.get(&pid).is_some_and(|(newest, _)| *newest == index);
                        let reading = newest
                            .then(|| readings.remove(&pid))
                            .flatten()
                            .and_then(|(_, reading)| reading);
                        self.execed(*at_ns, pid, reading.as_ref());
                    }
                    Event::Exit { pid, thread, status } => self.exited(*at_ns, pid, thread, status),
                }
            }
        }
        if lost {
            self.resync_after_loss();
        }
        self.flush_all();
        Ok(())
    }

    /// Takes messages until there are none, or enough. Tells whether the kernel dropped some.
    fn take_messages(&mut self) -> io::Result<bool> {
        let mut lost = false;
        while self.pending.len() < TURN {
            match self.connector.next() {
                Ok(Some(Message::Event { at_ns, event })) => self.pending.push((at_ns, event)),
                Ok(Some(Message::Answer { .. })) => {}
                Ok(None) => break,
                Err(error) if is_overrun(&error) => lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// The reading for the newest exec of each process that is, or may be, watched, with the index
    /// of that exec. The newest first: they are the likeliest to live.
    fn read_execs(&self, events: &[(u64, Event)]) -> HashMap<i32, (usize, Option<Reading>)> {
        let mut born = HashSet::new();
        for (_, event) in events {
            if let Event::Fork { parent, child } = event
                && (self.members.get(*parent).is_some() || born.contains(parent))
            {
                born.insert(*child);
            }
        }
        let mut readings = HashMap::new();
        for (index, (at_ns, event)) in events.iter().enumerate().rev() {
            let Event::Exec { pid } = *event else { continue };
            if readings.contains_key(&pid) {
                continue;
            }
            let is_known = self.members.get(pid).is_some() || born.contains(&pid);
            if is_known || self.is_newcomer(pid) {
                readings.insert(pid, (index, Reading::of(pid, *at_ns)));
            }
        }
        readings
    }

    fn is_newcomer(&self, pid: i32) -> bool {
        Memberships::of(pid).ok().is_some_and(|it| !self.members.found_in(pid, &it).is_empty())
    }

    fn forked(
        &mut self,
        at_ns: u64,
        parent: i32,
        child: i32,
        readings: &HashMap<i32, (usize, Option<Reading>)>,
    ) {
        let Some(from) = self.members.get(parent).cloned() else { return };
        let (start_ticks, vpid) = match readings.get(&child) {
            Some((_, Some(reading))) => (Some(reading.stat.start_ticks), reading.status.vpid),
            _ => match born_before(child, at_ns) {
                Some(stat) => (Some(stat.start_ticks), Status::of(child).vpid),
                None => (None, None),
            },
        };
        // Gone already: the moment of the event is that of the birth, but for the tick that may lie
        // between. All events of the process have this same start.
        let key = ProcessKey {
            pid: child,
            start_ticks: start_ticks.unwrap_or_else(|| start_ticks_at(at_ns)),
        };
        let known = self
            .members
            .get(child)
            .filter(|known| known.key == key)
            .map(|known| known.slots.clone());
        let lineage = Lineage {
            vpid,
            parent_pid: parent,
            parent_start_ticks: from.key.start_ticks,
            grandparent_pid: from.parent.pid,
        };
        for slot in from
            .slots
            .iter()
            .filter(|slot| !known.as_ref().is_some_and(|known| known.contains(slot)))
        {
            let grade = if start_ticks.is_some() { Grade::Late } else { Grade::Partial };
            self.tell(*slot, at_ns, grade, key, What::Fork(lineage));
        }
        let member = Member {
            key,
            slots: from.slots,
            vpid,
            parent: from.key,
            outputs: from.outputs,
            leader_ended: None,
        };
        self.members.insert(member);
    }

    fn execed(&mut self, at_ns: u64, pid: i32, reading: Option<&Reading>) {
        let memberships = reading.and_then(|reading| reading.memberships.clone());
        let mut member = match (self.members.get(pid), reading) {
            // A pid that was reused while an exit was lost is somebody else's.
            (Some(known), Some(reading))
                if known.key != reading.key(pid) && known.key.start_ticks != 0 =>
            {
                None
            }
            (Some(known), _) => Some(known.clone()),
            (None, _) => None,
        };
        if member.is_none() {
            // Not born in a target as far as was seen: has it come into one?
            let (Some(reading), Some(memberships)) = (reading, &memberships) else { return };
            let slots = self.members.found_in(pid, memberships);
            if slots.is_empty() {
                return;
            }
            member = Some(Member {
                key: reading.key(pid),
                slots,
                vpid: reading.status.vpid,
                parent: ProcessKey { pid: 0, start_ticks: 0 },
                outputs: reading.outputs,
                leader_ended: None,
            });
        }
        let Some(mut member) = member else { return };
        // The thread that execs becomes the leader, and the one that was ended for it.
        member.leader_ended = None;
        let (image, grade) = match reading {
            Some(reading) => (reading.image.clone(), reading.grade),
            None => (
                Image { unknown: Some(self.why_unread(member.key)), ..Image::default() },
                Grade::Partial,
            ),
        };
        let lineage = self.lineage(&mut member, reading);
        if let Some(reading) = reading {
            member.vpid = reading.status.vpid.or(member.vpid);
            if reading.grade == Grade::Late {
                member.outputs = reading.outputs;
            }
        }
        let in_host_mounts =
            reading.and_then(|it| it.mounts).zip(self.own_mounts).map(|(a, b)| a == b);
        let image = Arc::new(image);
        for slot in &member.slots {
            let nested = |it: &Watching| it.nested(memberships.as_ref()?);
            let cgroup = self.members.targets.get(slot).and_then(nested);
            let what = What::Exec { lineage, image: Arc::clone(&image), cgroup, in_host_mounts };
            self.tell(*slot, at_ns, grade, member.key, what);
        }
        self.members.remove(pid);
        self.members.insert(member);
    }

    /// Why there is no reading of an exec: still there means that it runs something newer.
    fn why_unread(&self, key: ProcessKey) -> Unknown {
        if identify(key.pid) == Some(key) { Unknown::Replaced } else { Unknown::Gone }
    }

    /// Where a process stands, and its parent as it is now.
    fn lineage(&self, member: &mut Member, reading: Option<&Reading>) -> Lineage {
        // The parent of one that is being reaped reads as 0 (`pid_alive`, fs/proc/array.c).
        if let Some(reading) =
            reading.filter(|it| it.stat.parent > 0 && it.stat.parent != member.parent.pid)
        {
            let lineage = lineage_of(&reading.stat, reading.status.vpid);
            member.parent =
                ProcessKey { pid: lineage.parent_pid, start_ticks: lineage.parent_start_ticks };
            return lineage;
        }
        Lineage {
            vpid: reading.and_then(|reading| reading.status.vpid).or(member.vpid),
            parent_pid: member.parent.pid,
            parent_start_ticks: member.parent.start_ticks,
            grandparent_pid: self
                .members
                .get(member.parent.pid)
                .map_or(0, |parent| parent.parent.pid),
        }
    }

    /// A thread ended. The process has only when its pidfd says so: a leader may go before the
    /// others (the kernel tells a thread's end after it has told the process's, `do_exit`:
    /// `exit_notify`, then `proc_exit_connector`).
    fn exited(&mut self, at_ns: u64, pid: i32, thread: i32, status: u32) {
        let Some(member) = self.members.get_mut(pid) else { return };
        let status = match (thread == pid, member.leader_ended) {
            (true, _) => status,
            // The leader lives: others come and go.
            (false, None) => return,
            // By exit_group(2) or a signal every thread has the process's status; by the end of a
            // last thread alone the leader's stands, and that thread's is 0 with pthread_exit(3).
            (false, Some(leader)) if status == 0 => leader,
            (false, Some(_)) => status,
        };
        if !is_dead(member.key) {
            if thread == pid {
                member.leader_ended = Some(status);
            }
            return;
        }
        let Some(member) = self.members.remove(pid) else { return };
        for slot in &member.slots {
            let what = What::Exit {
                wait_status: Some(status),
                oom_killed: false,
                outputs: member.outputs,
            };
            self.tell(*slot, at_ns, Grade::Exact, member.key, what);
        }
    }

    /// Tells everybody that something is missing, and who is alive.
    fn resync_after_loss(&mut self) {
        let numbers: Vec<_> = self.clients.keys().copied().collect();
        let lost =
            Record::Lost { target: None, at_ns: monotonic_ns(), count: None, stage: Stage::Kernel };
        for number in numbers {
            self.say(number, &Answer::Record(lost.clone()));
        }
        let slots: Vec<_> = self.members.targets.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.look(slot));
    }

    /// Tells who is alive in a target, and knows them from then on.
    fn look(&mut self, slot: Slot) {
        let Some(watching) = self.members.targets.get(&slot) else { return };
        let (id, number) = (watching.id, watching.client);
        let Ok(records) = scan(id, &watching.target, &self.members.known(slot)) else {
            return;
        };
        self.members.forget_all_of(slot);
        for record in records {
            if let Record::Process { key, what: What::Alive { lineage, .. }, .. } = &record {
                let parent =
                    ProcessKey { pid: lineage.parent_pid, start_ticks: lineage.parent_start_ticks };
                let (vpid, outputs) = (lineage.vpid, outputs(key.pid));
                self.members.insert(Member {
                    key: *key,
                    slots: vec![slot],
                    vpid,
                    parent,
                    outputs,
                    leader_ended: None,
                });
            }
            self.say(number, &Answer::Record(record));
        }
    }

    fn tell(&mut self, slot: Slot, at_ns: u64, grade: Grade, key: ProcessKey, what: What) {
        let Some(watching) = self.members.targets.get(&slot) else { return };
        let (target, number) = (watching.id, watching.client);
        self.say(number, &Answer::Record(Record::Process { target, at_ns, grade, key, what }));
    }

    fn say(&mut self, number: u64, answer: &Answer) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.say(answer);
        }
    }

    fn flush(&mut self, number: u64) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.flush();
        }
    }

    /// Sends what is to be sent. A client that had no room for a while is told so once it has, and
    /// what is alive then.
    pub(super) fn flush_all(&mut self) {
        let numbers: Vec<_> = self.clients.keys().copied().collect();
        for number in numbers {
            self.flush(number);
            if self.clients.get_mut(&number).is_some_and(Client::tell_loss) {
                let slots: Vec<_> = self
                    .members
                    .targets
                    .iter()
                    .filter(|(_, it)| it.client == number)
                    .map(|(slot, _)| *slot)
                    .collect();
                slots.into_iter().for_each(|slot| self.look(slot));
                self.flush(number);
            }
        }
    }

    /// Whether a client waits to be told of its own loss.
    pub(super) fn owes(&self) -> bool {
        self.clients.values().any(Client::owes)
    }
}

/// Whether the whole thread group is dead. Asked at an exit: what has this pid is the one that
/// ended, or younger and then that one was reaped.
fn is_dead(key: ProcessKey) -> bool {
    let fd = match pidfd::open(key.pid) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return true,
        // No descriptor to be had: a zombie may have other threads, and then it is told with the
        // last.
        Err(_) => return identify(key.pid) != Some(key),
    };
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        || identify(key.pid) != Some(key)
}
