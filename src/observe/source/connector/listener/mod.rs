//! The node's one listener: it receives the kernel's events and reports them to all shims.
//!
//! ```text
//!  kernel ── every fork, exec, exit of the node ──▶ listener ── the records of one shim ──▶ shim
//!                                                      │
//!                                     /proc/PID at each exec of a watched process
//! ```
//!
//! An iteration of the listener's loop ([`Listener::run_iteration`]) first receives a batch of the
//! kernel's events and reads `/proc` for the execs among them, because those processes may end
//! within 100 µs. It then receives the events that have arrived meanwhile, and makes the records
//! only after that.

mod events;

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, BorrowedFd},
};

use super::{
    client::Client,
    members::{Member, Members, Threads, Watch, WatchId},
    netlink::{Connector, Event, Message, is_overrun},
    reading::Reading,
    wire::{Answer, PROTOCOL_VERSION, Request},
};
use crate::{
    clock::monotonic_ns,
    linux::{
        cgroup::Memberships,
        process::{Stat, mount_namespace, outputs},
    },
    model::{Grade, ProcessKey, Stage},
    observe::{
        record::{Record, TargetId, What},
        source::{Target, scan::scan},
    },
};

/// How many of the kernel's messages one batch has at most. Further messages wait in the kernel's
/// buffer.
const BATCH_MESSAGES: usize = 256;

/// How many messages are received in advance at most, to find the last event of a process that has
/// ended.
const LOOKAHEAD: usize = 16 * BATCH_MESSAGES;

/// How many targets one client can watch. A further target is refused with `ENOSPC`.
const TARGETS_LIMIT: usize = 4096;

/// What `/proc` showed of the newest exec of each process, with the index of that exec among the
/// events of the batch. The reading is `None` if the process could not be read, or if `/proc` may
/// have shown a newer exec.
type Readings = HashMap<i32, (usize, Option<Reading>)>;

/// The kernel's events, the clients, and the processes that the clients watch.
#[derive(Debug)]
pub(super) struct Listener {
    connector: Connector,
    members: Members,
    clients: HashMap<u64, Client>,
    last_client: u64,
    /// Events that are received and not yet processed, each with its time (`CLOCK_MONOTONIC`,
    /// nanoseconds).
    pending: Vec<(u64, Event)>,
    /// Whether the kernel has dropped events and the clients have no report of that loss yet.
    has_lost_events: bool,
    /// The listener's mount namespace, which is also that of the shims; see `What::Exec`.
    own_mount_namespace: Option<u32>,
}

impl Listener {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            members: Members::default(),
            clients: HashMap::new(),
            last_client: 0,
            pending: Vec::new(),
            has_lost_events: false,
            own_mount_namespace: mount_namespace(std::process::id().cast_signed()),
        }
    }

    /// The descriptor that is readable when the kernel has reported events.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.connector.as_fd()
    }

    /// The clients' numbers and descriptors. A number is never reused.
    pub(super) fn clients(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.clients.iter().map(|(number, client)| (*number, client.fd()))
    }

    /// Whether no shim is connected.
    pub(super) fn is_idle(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether received events are left for the next iteration, which must then not wait.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Adds a shim that has connected, under a number of its own.
    pub(super) fn admit(&mut self, client: Client) {
        self.last_client += 1;
        self.clients.insert(self.last_client, client);
    }

    /// Reads and answers the requests of a client. Removes a client that has disconnected, or has
    /// sent something that is no request.
    pub(super) fn read_requests(&mut self, client: u64) {
        let Some(requests) = self.clients.get_mut(&client).and_then(Client::requests) else {
            return self.remove_client(client);
        };
        for request in requests {
            match request {
                Request::Hello { version } => {
                    self.push_answer(client, &Answer::Ready { version: PROTOCOL_VERSION });
                    if version != PROTOCOL_VERSION {
                        // Sent before the connection is closed, so that the shim can report that
                        // the versions differ.
                        self.flush(client);
                        return self.remove_client(client);
                    }
                }
                Request::Watch { id, target } => {
                    let answer = match self.watch(client, id, target) {
                        Ok(()) => Answer::Watched { id },
                        Err(error) => Answer::Refused {
                            id,
                            errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL),
                        },
                    };
                    self.push_answer(client, &answer);
                }
                Request::Unwatch { id } => {
                    // A client may have watched the same id twice; only the later watch is ended.
                    let watches = self.members.watches_of(client);
                    let watch =
                        watches.filter(|(_, it)| it.id == id).map(|(number, _)| number).max();
                    if let Some(watch) = watch {
                        self.members.remove_watch(watch);
                    }
                }
            }
        }
        self.flush(client);
    }

    /// Begins to watch a target for a client, and reports the living processes of the target.
    fn watch(&mut self, client: u64, id: TargetId, target: Target) -> io::Result<()> {
        if self.members.watches_of(client).count() >= TARGETS_LIMIT {
            return Err(nix::Error::ENOSPC.into());
        }
        let watch = self.members.add_watch(Watch::new(client, id, target)?);
        // Events that the kernel reports during the scan wait in its buffer. They are processed
        // when the members that the scan has found are known.
        self.scan_target(watch);
        Ok(())
    }

    fn remove_client(&mut self, client: u64) {
        self.clients.remove(&client);
        for watch in self.watches_of(client) {
            self.members.remove_watch(watch);
        }
    }

    fn watches_of(&self, client: u64) -> Vec<WatchId> {
        self.members.watches_of(client).map(|(number, _)| number).collect()
    }

    /// Runs one iteration: receives a batch of events from the kernel and reports them as records.
    ///
    /// # Errors
    ///
    /// The error of the connector's socket. A loss of events (`ENOBUFS`) is no error: it is
    /// reported to the clients.
    pub(super) fn run_iteration(&mut self) -> io::Result<()> {
        self.has_lost_events |= self.receive_events(BATCH_MESSAGES)?;
        let events = std::mem::take(&mut self.pending);
        if !self.members.watches.is_empty() {
            let mut readings = self.read_execs(&events);
            // If a process has exec'd again while /proc was read, the reading may show the newer
            // exec. The newer exec is in `pending` now, and gets a reading in the next iteration.
            self.has_lost_events |= self.receive_events(BATCH_MESSAGES)?;
            for (_, event) in &self.pending {
                if let Event::Exec { pid } = event
                    && let Some((_, reading)) = readings.get_mut(pid)
                {
                    *reading = None;
                }
            }
            for (index, (at_ns, event)) in events.iter().enumerate() {
                match *event {
                    Event::Fork { parent, child } => self.on_fork(*at_ns, parent, child, &readings),
                    Event::Thread { pid } => self.on_thread(pid),
                    Event::Exec { pid } => {
                        // An older exec of the same process in this batch has no reading, because
                        // `/proc` shows only the newest image.
                        let is_newest =
                            readings.get(&pid).is_some_and(|(newest, _)| *newest == index);
                        let reading = is_newest
                            .then(|| readings.remove(&pid))
                            .flatten()
                            .and_then(|(_, reading)| reading);
                        self.on_exec(*at_ns, pid, reading.as_ref());
                    }
                    Event::Exit { pid, thread, status } => {
                        self.on_exit(*at_ns, pid, thread, status, &events[index + 1..]);
                    }
                }
            }
        }
        if std::mem::take(&mut self.has_lost_events) {
            self.resync_after_loss();
        }
        self.flush_all();
        Ok(())
    }

    /// Receives messages until no message waits or `pending` has `most`. Returns whether the kernel
    /// has dropped events.
    fn receive_events(&mut self, most: usize) -> io::Result<bool> {
        let mut lost = false;
        while self.pending.len() < most {
            match self.connector.next() {
                Ok(Some(Message::Event { at_ns, event })) => self.pending.push((at_ns, event)),
                // The answers to the requests of all listeners arrive here, but this listener
                // awaits no answer any more.
                Ok(Some(Message::Answer { .. })) => {}
                Ok(None) => break,
                Err(error) if is_overrun(&error) => lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// Reads `/proc` for the newest exec of each process that is a member, or may become one.
    fn read_execs(&self, events: &[(u64, Event)]) -> Readings {
        // Children that are forked in this batch are not yet members, because `on_fork` runs later.
        let mut born = HashSet::new();
        for (_, event) in events {
            if let Event::Fork { parent, child } = event
                && (self.members.get(*parent).is_some() || born.contains(parent))
            {
                born.insert(*child);
            }
        }
        let mut readings = HashMap::new();
        // The newest execs are read first, because their processes are the likeliest to be alive.
        for (index, (at_ns, event)) in events.iter().enumerate().rev() {
            let Event::Exec { pid } = *event else { continue };
            if readings.contains_key(&pid) {
                continue;
            }
            let is_known = self.members.get(pid).is_some() || born.contains(&pid);
            if is_known || self.is_in_a_target(pid) {
                readings.insert(pid, (index, Reading::of(pid, *at_ns)));
            }
        }
        readings
    }

    /// Whether a process is in the cgroup or pid namespace of any watched target.
    fn is_in_a_target(&self, pid: i32) -> bool {
        Memberships::of(pid)
            .ok()
            .is_some_and(|it| !self.members.watches_containing(pid, &it).is_empty())
    }

    /// Reports to all clients that records are missing, and which processes are alive.
    fn resync_after_loss(&mut self) {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        // The kernel does not count what it drops: `count` is not known.
        let lost =
            Record::Lost { target: None, at_ns: monotonic_ns(), count: None, stage: Stage::Kernel };
        for client in clients {
            self.push_answer(client, &Answer::Record(lost.clone()));
        }
        let watches: Vec<_> = self.members.watches.keys().copied().collect();
        watches.into_iter().for_each(|watch| self.scan_target(watch));
    }

    /// Scans a target: reports the processes that are alive, and makes them its members.
    fn scan_target(&mut self, watch: WatchId) {
        let Some(watching) = self.members.watches.get(&watch) else { return };
        let (id, client) = (watching.id, watching.client);
        let Ok(records) = scan(id, &watching.target, &self.members.keys_of(watch)) else {
            // The target is gone or has too many processes. The members stay as they are.
            return;
        };
        // Members that the scan did not find have ended, and their exits were lost.
        self.members.forget_members(watch);
        for record in records {
            if let Record::Process { key, what: What::Alive { lineage, .. }, .. } = &record {
                let (vpid, outputs) = (lineage.vpid, outputs(key.pid));
                self.members.insert(Member {
                    key: *key,
                    watches: vec![watch],
                    vpid,
                    parent: lineage.parent,
                    outputs,
                    threads: Stat::of(key.pid).as_ref().map(Threads::of).unwrap_or_default(),
                });
            }
            self.push_answer(client, &Answer::Record(record));
        }
    }

    /// Adds a record about a process to the next packet of the watch's client.
    fn report(&mut self, watch: WatchId, at_ns: u64, grade: Grade, key: ProcessKey, what: What) {
        let Some(watching) = self.members.watches.get(&watch) else { return };
        let (target, client) = (watching.id, watching.client);
        self.push_answer(
            client,
            &Answer::Record(Record::Process { target, at_ns, grade, key, provenance: None, what }),
        );
    }

    fn push_answer(&mut self, client: u64, answer: &Answer) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.push_answer(answer);
        }
    }

    fn flush(&mut self, client: u64) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.flush();
        }
    }

    /// Sends the packets of all clients. If records for a client were dropped, reports that loss
    /// once the client's socket has free space again, followed by a scan of the client's targets.
    pub(super) fn flush_all(&mut self) {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for client in clients {
            self.flush(client);
            if self.clients.get_mut(&client).is_some_and(Client::report_loss) {
                let watches = self.watches_of(client);
                watches.into_iter().for_each(|watch| self.scan_target(watch));
                self.flush(client);
            }
        }
    }

    /// Whether records for a client were dropped and the loss is not yet reported to it.
    pub(super) fn has_unreported_loss(&self) -> bool {
        self.clients.values().any(Client::has_unreported_loss)
    }
}
