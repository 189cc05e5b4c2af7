//! Builds a report from the events of a container.

use std::collections::{BTreeSet, HashMap};

use super::{
    model::{Account, Counts, Gap, Names, Owner, Port, Report, SCHEMA_VERSION, State, Time},
    process::Draft,
    tree,
};
use crate::{
    api::{self, Container, Event, event::Body},
    model::lossless,
};

/// Takes the events of one container in the order in which they are delivered. Their times need not
/// be in order.
#[derive(Debug, Default)]
pub(super) struct Builder {
    names: Names,
    drafts: Vec<Draft>,
    by_entity: HashMap<String, usize>,
    /// All processes that had a pid, in the order of their first events.
    by_pid: HashMap<i32, Vec<usize>>,
    /// Those without an end.
    open: BTreeSet<usize>,
    ports: Vec<PortDraft>,
    open_ports: HashMap<PortKey, Vec<usize>>,
    gaps: Vec<GapDraft>,
    accounts: Vec<Account>,
    events: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    /// Whether the last run of the container was deleted.
    is_closed: bool,
}

/// Which part of the container's life a report is about, and how it ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// What ended before is left out; 0: nothing.
    pub(super) since_ns: u64,
    /// The container still ran, and until this time nothing else can have happened. `None` if it
    /// has ended.
    pub(super) runs_until_ns: Option<u64>,
}

#[derive(Debug)]
struct PortDraft {
    port: Port,
    /// When the container was deleted without a `port.close` before.
    ended_ns: Option<u64>,
}

type PortKey = (String, String, u32, Option<u32>);

/// A gap; a bound that is `None` is that of the first event.
#[derive(Debug)]
struct GapDraft {
    from_ns: Option<u64>,
    to_ns: Option<u64>,
    stage: String,
    lost: Option<u64>,
}

impl Builder {
    pub(super) fn add(&mut self, event: &Event) {
        if let Some(container) = event.container.as_ref() {
            self.name(container);
        }
        // Without a number it is a statement about the stream, or a gap of the history.
        let is_numbered = event.seq > 0;
        if is_numbered {
            self.events += 1;
            self.first_ns = Some(self.first_ns.unwrap_or(u64::MAX).min(event.time_ns));
            self.last_ns = self.last_ns.max(event.time_ns);
        }
        match &event.body {
            Some(Body::Process(process)) => self.add_process(event, process),
            Some(Body::Port(port)) => self.add_port(event, port),
            Some(Body::Gap(gap)) => self.add_gap(event, gap),
            Some(Body::ContainerStart(_)) => self.is_closed = false,
            Some(Body::ContainerClose(close)) => self.close(event.time_ns, close),
            _ => {}
        }
    }

    /// Adds the names of the container.
    pub(super) fn name(&mut self, container: &Container) {
        if self.names.id.is_empty() {
            self.names.namespace = container.namespace.clone();
            self.names.id = container.id.clone();
        }
        if let Some(k8s) = container.k8s.as_ref().filter(|_| self.names.pod.is_empty()) {
            self.names.k8s_namespace = k8s.namespace.clone();
            self.names.pod = k8s.pod_name.clone();
            self.names.pod_uid = k8s.pod_uid.clone();
            self.names.name = k8s.container_name.clone();
        }
    }

    /// Adds the processes that a shim has listed after it had assigned the number `seq`. A process
    /// without an event began before the first known one. A process with events until then that is
    /// not in the list has ended, and its exit was lost.
    pub(super) fn add_living(&mut self, epoch: &str, seq: u64, living: &[api::Process]) {
        let mut listed = BTreeSet::new();
        for process in living {
            let at = self.slot(process, "", None);
            self.drafts[at].absorb_listed(process);
            listed.insert(at);
        }
        let is_gone = |at: &usize| {
            let draft = &self.drafts[*at];
            !listed.contains(at) && draft.epoch == epoch && draft.last_seq <= seq
        };
        let gone: Vec<usize> = self.open.iter().copied().filter(is_gone).collect();
        for at in gone {
            self.drafts[at].is_gone = true;
            self.open.remove(&at);
        }
    }

    fn add_process(&mut self, event: &Event, process: &api::Process) {
        let at = self.slot(process, &event.type_, Some(event.time_ns));
        self.drafts[at].absorb(event, process);
        if self.drafts[at].has_ended() {
            self.open.remove(&at);
        }
    }

    /// The draft of a process. Its identity is the entity id; without one, the pid and, as far as
    /// it is known, the time of its creation.
    fn slot(&mut self, process: &api::Process, type_: &str, time_ns: Option<u64>) -> usize {
        if let Some(at) = self.by_entity.get(&process.entity_id) {
            return *at;
        }
        let latest = self.by_pid.get(&process.pid).and_then(|all| all.last()).copied();
        let same = latest.filter(|at| self.drafts[*at].may_be(process, type_));
        let at = same.unwrap_or_else(|| {
            if let Some(before) = latest.filter(|at| !self.drafts[*at].has_ended()) {
                // The pid is used again, so the process before has ended.
                self.drafts[before].reused_ns = self.drafts[before].reused_ns.or(time_ns);
                self.drafts[before].is_gone = true;
                self.open.remove(&before);
            }
            let at = self.drafts.len();
            self.drafts.push(Draft::new(process));
            self.by_pid.entry(process.pid).or_default().push(at);
            self.open.insert(at);
            at
        });
        if !process.entity_id.is_empty() {
            self.drafts[at].process.entity_id = process.entity_id.clone();
            self.by_entity.insert(process.entity_id.clone(), at);
        }
        at
    }

    fn add_port(&mut self, event: &Event, port: &api::Port) {
        let key: PortKey =
            (port.transport.clone(), port.address.clone(), port.port, port.network_namespace);
        if event.type_ == "port.open" {
            let draft =
                PortDraft { port: port_of(port, Some(Time(event.time_ns))), ended_ns: None };
            self.open_ports.entry(key).or_default().push(self.ports.len());
            self.ports.push(draft);
            return;
        }
        let opened = self.open_ports.get_mut(&key).and_then(Vec::pop);
        let at = opened.unwrap_or_else(|| {
            self.ports.push(PortDraft { port: port_of(port, None), ended_ns: None });
            self.ports.len() - 1
        });
        self.ports[at].port.close = Some(Time(event.time_ns));
    }

    fn add_gap(&mut self, event: &Event, gap: &api::Gap) {
        // A gap of the stream itself says that events before the first one are missing.
        let is_before = event.seq == 0 && gap.stage != "history";
        // The bounds are of another clock than the time of the event.
        let real = |monotonic_ns: u64| {
            event.time_ns.saturating_sub(event.monotonic_ns.saturating_sub(monotonic_ns))
        };
        let (from_ns, to_ns) = match is_before {
            true => (None, None),
            false if gap.from_ns == 0 => (Some(event.time_ns), Some(event.time_ns)),
            false => (Some(real(gap.from_ns)), Some(real(gap.to_ns))),
        };
        self.gaps.push(GapDraft { from_ns, to_ns, stage: gap.stage.clone(), lost: gap.lost });
    }

    fn close(&mut self, time_ns: u64, close: &api::ContainerClose) {
        self.accounts.push(Account {
            closed: Time(time_ns),
            seen: close.seen,
            delivered: close.delivered,
            lost: close.lost,
            runtime: close.runtime,
        });
        self.is_closed = true;
        for at in std::mem::take(&mut self.open) {
            self.drafts[at].reused_ns = Some(time_ns);
            self.drafts[at].is_gone = true;
        }
        for (_, open) in self.open_ports.drain() {
            open.into_iter().for_each(|at| self.ports[at].ended_ns = Some(time_ns));
        }
    }

    pub(super) fn finish(mut self, window: Window) -> Report {
        let first_ns = self.first_ns.unwrap_or(window.runs_until_ns.unwrap_or(self.last_ns));
        // A container that has ended is there until it is deleted.
        let has_ended = self.is_closed || (self.open.is_empty() && !self.drafts.is_empty());
        let runs_until = window.runs_until_ns.filter(|_| !has_ended);
        let to_ns = runs_until.unwrap_or(self.last_ns).max(self.last_ns);
        let from_ns = window.since_ns.max(first_ns).min(to_ns);
        let range = (from_ns, to_ns);
        for at in &self.open {
            // Nothing says that the shim of an ended container was there to see the end.
            self.drafts[*at].is_gone |= runs_until.is_none();
        }
        let (processes, execs) = tree::grown(self.drafts, &self.by_entity, &mut self.by_pid, range);
        let mut gaps: Vec<Gap> = self.gaps.into_iter().map(|gap| gap.within(first_ns)).collect();
        gaps.retain(|gap| gap.to.0 >= from_ns);
        for gap in &mut gaps {
            let clip = |time: Time| Time(time.0.clamp(from_ns, to_ns));
            (gap.from, gap.to) = (clip(gap.from), clip(gap.to));
        }
        gaps.sort_by_key(|gap| gap.from);
        let ids: HashMap<&str, usize> =
            processes.iter().map(|one| (one.entity_id.as_str(), one.id)).collect();
        let mut ports: Vec<Port> =
            self.ports.into_iter().filter_map(|port| port.within(range)).collect();
        for owner in ports.iter_mut().flat_map(|port| &mut port.owners) {
            owner.process = ids.get(owner.entity_id.as_str()).copied();
        }
        let counts = Counts {
            events: self.events,
            processes: processes.len(),
            failures: processes.iter().filter(|process| process.is_failure()).count(),
            running: processes.iter().filter(|one| one.state == State::Running).count(),
            execs: execs.len(),
            ports: ports.len(),
            gaps: gaps.len(),
        };
        self.accounts.retain(|account| account.closed.0 >= from_ns);
        Report {
            schema_version: SCHEMA_VERSION,
            container: self.names,
            from: Time(from_ns),
            to: Time(to_ns),
            duration_ns: to_ns - from_ns,
            is_running: runs_until.is_some(),
            init: processes.iter().rposition(|process| process.origin == "init"),
            counts,
            processes,
            execs,
            ports,
            gaps,
            accounts: self.accounts,
        }
    }
}

impl GapDraft {
    fn within(self, first_ns: u64) -> Gap {
        Gap {
            from: Time(self.from_ns.unwrap_or(first_ns)),
            to: Time(self.to_ns.unwrap_or(first_ns)),
            stage: self.stage,
            lost: self.lost,
        }
    }
}

impl PortDraft {
    /// The port, if it was open in this time.
    fn within(self, (from_ns, to_ns): (u64, u64)) -> Option<Port> {
        let Self { mut port, ended_ns } = self;
        let end_ns = port.close.map(|close| close.0).or(ended_ns);
        port.state = match (port.close, ended_ns) {
            (Some(_), _) => State::Ended,
            (None, Some(_)) => State::Unknown,
            (None, None) => State::Running,
        };
        let open_ns = port.open.map_or(from_ns, |open| open.0);
        let end_ns = end_ns.unwrap_or(to_ns);
        port.bar = (open_ns.clamp(from_ns, to_ns), end_ns.clamp(from_ns, to_ns));
        (end_ns >= from_ns).then_some(port)
    }
}

fn port_of(port: &api::Port, open: Option<Time>) -> Port {
    let owner = |owner: &api::Owner| Owner {
        pid: owner.pid,
        process: None,
        executable: owner.executable.as_deref().map(|path| lossless(path).into_owned()),
        entity_id: owner.entity_id.clone(),
    };
    Port {
        transport: port.transport.clone(),
        address: port.address.clone(),
        port: port.port,
        scope: port.scope.clone(),
        dual_stack: port.dual_stack,
        network_namespace: port.network_namespace,
        open,
        owners: port.owners.iter().map(owner).collect(),
        ..Port::default()
    }
}
