//! Who lives in the node's containers, what is open there, and which of them are idle. Pure.

use std::collections::BTreeMap;

use crate::api::{
    Container, ContainerPort, ContainerProcess, Event, Port, PortsResponse, ProcessesResponse,
    event::Body,
};

/// The processes that live and the ports that are open, by the epoch of the shim that told of them.
#[derive(Debug, Default)]
pub struct View {
    shims: BTreeMap<String, Shim>,
}

#[derive(Debug, Default)]
struct Shim {
    /// By entity id.
    processes: Listed<String, ContainerProcess>,
    ports: Listed<PortKey, ContainerPort>,
    /// The containers that are idle, by id.
    idle: Listed<String, Container>,
}

/// A shim's list of something, as events have changed it since.
#[derive(Debug, Default)]
struct Listed<K, T> {
    /// The last event that the list included when it came.
    as_of: u64,
    rows: BTreeMap<K, T>,
}

/// What makes a port another one: whose, and where.
type PortKey = (String, String, u32, String, bool);

impl View {
    /// What a shim said of all its containers takes the place of what was known.
    pub fn set_processes(&mut self, epoch: &str, answer: ProcessesResponse) {
        let rows = answer
            .processes
            .into_iter()
            .map(|one| (one.process.get_or_default().entity_id.clone(), one));
        let idle = answer.idle.into_iter().map(|one| (one.id.clone(), one));
        let shim = self.shim(epoch);
        shim.processes = Listed { as_of: answer.seq, rows: rows.collect() };
        shim.idle = Listed { as_of: answer.seq, rows: idle.collect() };
    }

    /// The same of ports, without those that no event has told: nobody would tell that they are
    /// gone.
    pub fn set_ports(&mut self, epoch: &str, answer: PortsResponse) {
        let told = answer.ports.into_iter().filter(|one| !one.listed_only);
        let rows = told
            .map(|one| (key(&one.container.get_or_default().id, one.port.get_or_default()), one));
        self.shim(epoch).ports = Listed { as_of: answer.seq, rows: rows.collect() };
    }

    /// Takes over an event. Whether its shim has to be asked again: something is missing.
    pub fn apply(&mut self, epoch: &str, event: &Event) -> bool {
        let shim = self.shim(epoch);
        let id = &event.container.get_or_default().id;
        let container = || event.container.clone();
        match (&event.body, event.type_.as_str()) {
            (Some(Body::Gap(_)), _) => return true,
            (Some(Body::Process(process)), "process.fork" | "process.start" | "process.exec") => {
                let told = Some(process.clone()).into();
                let one = ContainerProcess {
                    container: container(),
                    process: told,
                    ..Default::default()
                };
                shim.processes.insert(event.seq, process.entity_id.clone(), one);
            }
            (Some(Body::Process(process)), "process.exit") => {
                shim.processes.remove(event.seq, &process.entity_id);
                if process.origin == "init" {
                    // Nothing more is told of it: it is neither.
                    shim.idle.remove(event.seq, id);
                }
            }
            (Some(Body::ContainerIdle(_)), _) => {
                shim.idle.insert(event.seq, id.clone(), event.container.get_or_default().clone());
            }
            (Some(Body::ContainerActive(_)), _) => shim.idle.remove(event.seq, id),
            (Some(Body::Port(port)), "port.open") => {
                let told = Some(port.clone()).into();
                let one =
                    ContainerPort { container: container(), port: told, ..Default::default() };
                shim.ports.insert(event.seq, key(id, port), one);
            }
            (Some(Body::Port(port)), "port.close") => shim.ports.remove(event.seq, &key(id, port)),
            (Some(Body::ContainerClose(_)), _) => {
                shim.processes.retain(event.seq, |one| one.container != event.container);
                shim.ports.retain(event.seq, |one| one.container != event.container);
                shim.idle.remove(event.seq, id);
            }
            _ => {}
        }
        false
    }

    /// A shim has gone, and its containers with it.
    pub fn forget(&mut self, epoch: &str) {
        self.shims.remove(epoch);
    }

    /// All processes: by shim, parents as a rule before children.
    #[must_use]
    pub fn processes(&self) -> Vec<ContainerProcess> {
        let of = |shim: &Shim| {
            let mut list: Vec<_> = shim.processes.rows.values().cloned().collect();
            list.sort_by_key(|one| {
                (one.process.get_or_default().created_ns, one.process.get_or_default().pid)
            });
            list
        };
        self.shims.values().flat_map(of).collect()
    }

    /// The containers that are idle: by shim and id.
    #[must_use]
    pub fn idle(&self) -> Vec<Container> {
        self.shims.values().flat_map(|shim| shim.idle.rows.values().cloned()).collect()
    }

    /// All open ports: by shim, container, protocol and number.
    #[must_use]
    pub fn ports(&self) -> Vec<ContainerPort> {
        self.shims.values().flat_map(|shim| shim.ports.rows.values().cloned()).collect()
    }

    /// How many processes, and how many ports.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let of = |shim: &Shim| (shim.processes.rows.len(), shim.ports.rows.len());
        self.shims.values().map(of).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn shim(&mut self, epoch: &str) -> &mut Shim {
        self.shims.entry(epoch.to_owned()).or_default()
    }
}

impl<K: Ord, T> Listed<K, T> {
    fn insert(&mut self, seq: u64, key: K, row: T) {
        if self.is_new(seq) {
            self.rows.insert(key, row);
        }
    }

    fn remove(&mut self, seq: u64, key: &K) {
        if self.is_new(seq) {
            self.rows.remove(key);
        }
    }

    fn retain(&mut self, seq: u64, stays: impl Fn(&T) -> bool) {
        if self.is_new(seq) {
            self.rows.retain(|_, row| stays(row));
        }
    }

    /// Whether the list did not include that event already.
    fn is_new(&self, seq: u64) -> bool {
        seq == 0 || seq > self.as_of
    }
}

fn key(container_id: &str, port: &Port) -> PortKey {
    let Port { transport, address, .. } = port;
    (container_id.to_owned(), transport.clone(), port.port, address.clone(), port.dual_stack)
}

#[cfg(test)]
mod tests;
