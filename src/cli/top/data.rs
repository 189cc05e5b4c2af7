//! What is known of the node: processes, ports, usage, exits, and why something is missing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{
    tree::{Group, Item, RowId},
    usage::{Sample, Used},
};
use crate::{
    api::{
        Container, ContainerPort, ContainerProcess, Event, Kubernetes, Port, PortsResponse,
        Process, ProcessesResponse, event::Body,
    },
    cli::{
        output::Style,
        render::{
            events::{command_text, what_text},
            names::container_name,
        },
        select::Scope,
        starts::StartsAndExits,
    },
    daemon::node::view::NodeView,
    model::{ProcessKey, printable},
};

/// How many exits are kept.
const EXITS_MAX: usize = 32;

/// Something new about the node.
#[derive(Debug)]
pub(super) enum Change {
    /// All processes and ports of a shim.
    Listed {
        shim: String,
        processes: Box<ProcessesResponse>,
        ports: Option<Box<PortsResponse>>,
        /// The shim's containers with their names.
        names: Vec<Container>,
    },
    /// New events of a shim.
    Events { shim: String, events: Vec<Event> },
    /// A shim has ended.
    ShimEnded { shim: String },
    /// All living processes of the registry and their descendants.
    Registered(Vec<Process>),
    /// The usage of all processes.
    Sampled(HashMap<String, Sample>),
    /// Why something is missing; `None` if it is no longer.
    Note(Note, Option<String>),
}

/// What may be missing. The first one is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Note {
    Shims,
    Shim(String),
    Registry,
}

/// A process that has ended. The texts are safe to print.
#[derive(Debug)]
pub(super) struct Exited {
    /// In nanoseconds since 1970.
    pub(super) time_ns: u64,
    pub(super) container: String,
    pub(super) pid: i32,
    pub(super) what: String,
    pub(super) has_failed: bool,
}

pub(super) struct Data {
    style: Style,
    /// The containers that are shown; `None` before they are found.
    pub(super) scope: Option<Scope>,
    node: NodeView,
    /// The names of containers in Kubernetes, by namespace and id in containerd.
    names: HashMap<(String, String), Kubernetes>,
    registered: Vec<Process>,
    samples: HashMap<String, Sample>,
    usage: HashMap<String, Used>,
    starts: StartsAndExits,
    /// The newest one last.
    pub(super) exits: VecDeque<Exited>,
    notes: BTreeMap<Note, String>,
}

impl Data {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            scope: None,
            node: NodeView::default(),
            names: HashMap::new(),
            registered: Vec::new(),
            samples: HashMap::new(),
            usage: HashMap::new(),
            starts: StartsAndExits::default(),
            exits: VecDeque::new(),
            notes: BTreeMap::new(),
        }
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Listed { shim, processes, ports, names } => {
                self.node.set_processes(&shim, *processes);
                if let Some(ports) = ports {
                    self.node.set_ports(&shim, *ports);
                }
                names.into_iter().for_each(|container| self.note_name(container));
            }
            Change::Events { shim, events } => {
                for event in &events {
                    // The one who reads the events asks for the lists again after a gap.
                    let _ = self.node.apply_event(&shim, event);
                    self.note_exit(event);
                }
            }
            Change::ShimEnded { shim } => self.node.remove_shim(&shim),
            Change::Registered(processes) => self.registered = processes,
            Change::Sampled(samples) => {
                let used = |(id, now): (&String, &Sample)| {
                    (id.clone(), Used::between(self.samples.get(id), now))
                };
                self.usage = samples.iter().map(used).collect();
                self.samples = samples;
            }
            Change::Note(note, Some(text)) => {
                self.notes.insert(note, printable::safe_text(text.as_bytes()));
            }
            Change::Note(note, None) => drop(self.notes.remove(&note)),
        }
    }

    /// Why something is missing, most important first. That no daemon runs matters only if nothing
    /// else is shown.
    pub(super) fn note(&self, is_empty: bool) -> Option<&str> {
        let is_shown = |note: &&Note| **note != Note::Registry || is_empty;
        let note = self.notes.keys().find(is_shown)?;
        self.notes.get(note).map(String::as_str)
    }

    /// The processes that are shown: the id of the group, the container, and the process.
    fn processes(&self) -> impl Iterator<Item = (RowId, Option<&Container>, &Process)> {
        let is_shown = |one: &&ContainerProcess| {
            self.scope
                .as_ref()
                .is_some_and(|scope| scope.has(&self.named(one.container.get_or_default())))
        };
        let contained = self.node.processes_after(None).map(|(_, one)| one).filter(is_shown);
        let contained = contained.map(|one| {
            let container = one.container.get_or_default();
            let id = RowId::Container(container.namespace.clone(), container.id.clone());
            (id, Some(container), one.process.get_or_default())
        });
        let registered = self.registered.iter().map(|one| (RowId::Registered, None, one));
        contained.chain(registered)
    }

    /// The groups of processes that are shown, each process once: one that is in a container and
    /// registered belongs to the container.
    pub(super) fn groups(&self) -> Vec<Group> {
        let ports = self.ports_by_owner();
        let mut groups: BTreeMap<RowId, Group> = BTreeMap::new();
        let mut seen = HashSet::new();
        for (id, container, process) in self.processes() {
            if !seen.insert(process.entity_id.as_str()) {
                continue;
            }
            let group = groups.entry(id).or_insert_with_key(|id| {
                let title = match container {
                    Some(container) => container_name(&self.named(container), self.style),
                    None => "registered processes".to_owned(),
                };
                Group { id: id.clone(), title, processes: Vec::new() }
            });
            let ports = ports.get(process.entity_id.as_str());
            group.processes.push(Item {
                entity_id: process.entity_id.clone(),
                pid: process.pid,
                parent_pid: process.parent_pid,
                user: process.uid.map_or_else(String::new, |uid| uid.to_string()),
                ports: ports.map_or_else(String::new, |ports| numbers(ports)),
                command: command_text(process),
                created_ns: process.created_ns,
                used: self.usage.get(&process.entity_id).copied().unwrap_or_default(),
            });
        }
        groups.into_values().collect()
    }

    /// A process that is shown, with its container and its ports.
    pub(super) fn process(
        &self,
        entity_id: &str,
    ) -> Option<(Option<Container>, &Process, Vec<&Port>)> {
        let (_, container, process) =
            self.processes().find(|(_, _, process)| process.entity_id == entity_id)?;
        let ports = self.ports_by_owner().remove(entity_id).unwrap_or_default();
        Some((container.map(|container| self.named(container)), process, ports))
    }

    /// The processes of which the usage is shown, by their entity ids.
    pub(super) fn keys(&self) -> Vec<(String, ProcessKey)> {
        let key = |process: &Process| {
            Some((process.entity_id.clone(), ProcessKey::of_entity_id(&process.entity_id)?))
        };
        self.processes().filter_map(|(_, _, process)| key(process)).collect()
    }

    fn ports_by_owner(&self) -> HashMap<&str, Vec<&Port>> {
        let mut ports: HashMap<&str, Vec<&Port>> = HashMap::new();
        for (_, ContainerPort { port, .. }) in self.node.ports_after(None) {
            let Some(port) = port.as_ref() else { continue };
            for owner in &port.owners {
                ports.entry(&owner.entity_id).or_default().push(port);
            }
        }
        ports
    }

    fn note_name(&mut self, container: Container) {
        if let Some(k8s) = container.k8s.into_option() {
            self.names.insert((container.namespace, container.id), k8s);
        }
    }

    /// A container with its names in Kubernetes.
    fn named(&self, container: &Container) -> Container {
        let key = (container.namespace.clone(), container.id.clone());
        let mut container = container.clone();
        if container.k8s.is_none() {
            container.k8s = self.names.get(&key).cloned().into();
        }
        container
    }

    /// Keeps an exit that a person wants to see.
    fn note_exit(&mut self, event: &Event) {
        let is_interesting = self.starts.shows(event) && event.type_ == "process.exit";
        let (true, Some(Body::Process(process))) = (is_interesting, &event.body) else {
            if let (Some(Body::ContainerStart(_)), Some(container)) =
                (&event.body, event.container.as_ref())
            {
                self.note_name(container.clone());
            }
            return;
        };
        let container = self.named(event.container.get_or_default());
        if !self.scope.as_ref().is_some_and(|scope| scope.has(&container)) {
            return;
        }
        if self.exits.len() == EXITS_MAX {
            self.exits.pop_front();
        }
        self.exits.push_back(Exited {
            time_ns: event.time_ns,
            container: container_name(&container, self.style),
            pid: process.pid,
            what: what_text(event),
            has_failed: process.ended.as_ref().is_none_or(|ended| ended.status != Some(0)),
        });
    }
}

/// The numbers of ports, each once, in order.
fn numbers(ports: &[&Port]) -> String {
    let mut numbers: Vec<u32> = ports.iter().map(|port| port.port).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
