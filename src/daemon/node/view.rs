//! The living processes and open ports of the node's containers, and which containers are idle.
//! This module is pure: no I/O, no clock.

use std::collections::BTreeMap;

use crate::api::{
    Container, ContainerPort, ContainerProcess, Event, Port, PortsResponse, ProcessesResponse,
    event::Body,
};

/// The living processes, the open ports and the idle containers, by the epoch of the shim that
/// reported them.
#[derive(Debug, Default)]
pub struct View {
    shims: BTreeMap<String, Shim>,
}

#[derive(Debug, Default)]
struct Shim {
    /// The living processes, by entity id.
    processes: Snapshot<String, ContainerProcess>,
    ports: Snapshot<PortKey, ContainerPort>,
    /// The containers that are idle, by id.
    idle: Snapshot<String, Container>,
}

/// A list that a shim has sent, changed by the events after it.
#[derive(Debug, Default)]
struct Snapshot<K, T> {
    /// The sequence number of the last event that the list includes.
    as_of: u64,
    rows: BTreeMap<K, T>,
}

/// Identifies a port: container id, transport, number, address, dual stack, network namespace.
type PortKey = (String, String, u32, String, bool, Option<u32>);

impl View {
    /// Replaces the processes and the idle containers of a shim by the shim's own list.
    pub fn set_processes(&mut self, epoch: &str, answer: ProcessesResponse) {
        let rows = answer
            .processes
            .into_iter()
            .map(|one| (one.process.get_or_default().entity_id.clone(), one));
        let idle = answer.idle.into_iter().map(|one| (one.id.clone(), one));
        let shim = self.shim(epoch);
        shim.processes = Snapshot { as_of: answer.seq, rows: rows.collect() };
        shim.idle = Snapshot { as_of: answer.seq, rows: idle.collect() };
    }

    /// Replaces the open ports of a shim by the shim's own list, except for ports that no event has
    /// reported: no event would report their closing either.
    pub fn set_ports(&mut self, epoch: &str, answer: PortsResponse) {
        let reported = answer.ports.into_iter().filter(|one| !one.listed_only);
        let rows = reported
            .map(|one| (key(&one.container.get_or_default().id, one.port.get_or_default()), one));
        self.shim(epoch).ports = Snapshot { as_of: answer.seq, rows: rows.collect() };
    }

    /// Applies an event. Returns whether events are missing, so that the shim has to be asked for
    /// its lists again.
    pub fn apply(&mut self, epoch: &str, event: &Event) -> bool {
        let shim = self.shim(epoch);
        let id = &event.container.get_or_default().id;
        let container = || event.container.clone();
        match (&event.body, event.type_.as_str()) {
            (Some(Body::Gap(_)), _) => return true,
            (Some(Body::Process(process)), "process.fork" | "process.start" | "process.exec") => {
                let row = ContainerProcess {
                    container: container(),
                    process: Some(process.clone()).into(),
                    ..Default::default()
                };
                shim.processes.insert(event.seq, process.entity_id.clone(), row);
            }
            (Some(Body::Process(process)), "process.exit") => {
                shim.processes.remove(event.seq, &process.entity_id);
                if process.origin == "init" {
                    // A container without its init has no further idle or active events.
                    shim.idle.remove(event.seq, id);
                }
            }
            (Some(Body::ContainerIdle(_)), _) => {
                shim.idle.insert(event.seq, id.clone(), event.container.get_or_default().clone());
            }
            (Some(Body::ContainerActive(_)), _) => shim.idle.remove(event.seq, id),
            (Some(Body::Port(port)), "port.open") => {
                let row = ContainerPort {
                    container: container(),
                    port: Some(port.clone()).into(),
                    ..Default::default()
                };
                shim.ports.insert(event.seq, key(id, port), row);
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

    /// Removes a shim that has ended, with the processes, ports and containers that it reported.
    pub fn forget(&mut self, epoch: &str) {
        self.shims.remove(epoch);
    }

    /// All living processes, by shim and creation time, so that parents usually come before their
    /// children.
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

    /// The containers that are idle, by shim and id.
    #[must_use]
    pub fn idle(&self) -> Vec<Container> {
        self.shims.values().flat_map(|shim| shim.idle.rows.values().cloned()).collect()
    }

    /// All open ports, by shim, container, transport and number.
    #[must_use]
    pub fn ports(&self) -> Vec<ContainerPort> {
        self.shims.values().flat_map(|shim| shim.ports.rows.values().cloned()).collect()
    }

    /// The number of living processes, and the number of open ports.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let of = |shim: &Shim| (shim.processes.rows.len(), shim.ports.rows.len());
        self.shims.values().map(of).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn shim(&mut self, epoch: &str) -> &mut Shim {
        self.shims.entry(epoch.to_owned()).or_default()
    }
}

impl<K: Ord, T> Snapshot<K, T> {
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

    /// Whether the list does not include the event with this sequence number yet. An event without
    /// a sequence number always applies.
    fn is_new(&self, seq: u64) -> bool {
        seq == 0 || seq > self.as_of
    }
}

fn key(container_id: &str, port: &Port) -> PortKey {
    let Port { transport, address, network_namespace, .. } = port;
    let (transport, address) = (transport.clone(), address.clone());
    (container_id.to_owned(), transport, port.port, address, port.dual_stack, *network_namespace)
}

#[cfg(test)]
mod tests;
