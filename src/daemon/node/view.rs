//! The living processes and open ports of the node's containers, and which containers are idle.
//! This module is pure: no I/O, no clock.

use std::{collections::BTreeMap, ops::Bound};

use serde::{Deserialize, Serialize};

use super::lineage::Lineages;
use crate::api::{
    Container, ContainerPort, ContainerProcess, Event, Port, PortsResponse, ProcessesResponse,
    event::Body,
};

/// The living processes, the open ports and the idle containers, by the epoch of the shim that
/// reported them.
#[derive(Debug, Default)]
pub struct NodeView {
    shims: BTreeMap<String, ShimView>,
}

#[derive(Debug, Default)]
struct ShimView {
    /// The living processes of the shim's containers, by entity id.
    processes: ShimList<String, ContainerProcess>,
    /// The open ports of the shim's containers.
    ports: ShimList<PortKey, ContainerPort>,
    /// The shim's containers that are idle, by id.
    idle: ShimList<String, Container>,
    /// Which of the processes descend from which.
    lineages: Lineages,
}

/// A list of processes, ports or containers that a shim has sent, with the changes by later events.
#[derive(Debug, Default)]
struct ShimList<K, T> {
    /// The sequence number of the last event that the list includes.
    as_of_seq: u64,
    /// The elements of the list, by what identifies them.
    rows: BTreeMap<K, T>,
}

/// What identifies a port in the view: container id, transport, number, address, dual stack and
/// network namespace.
type PortKey = (String, String, u32, String, bool, Option<u32>);

/// A place in the list of all processes, for answers in pages: that of one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessPosition {
    epoch: String,
    created_ns: u64,
    pid: i32,
    entity_id: String,
}

impl ProcessPosition {
    fn of(epoch: &str, one: &ContainerProcess) -> Self {
        let process = one.process.get_or_default();
        let (epoch, entity_id) = (epoch.to_owned(), process.entity_id.clone());
        Self { epoch, created_ns: process.created_ns, pid: process.pid, entity_id }
    }
}

/// A place in the list of all ports, for answers in pages: that of one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPosition {
    epoch: String,
    key: PortKey,
}

impl NodeView {
    /// Replaces the living processes and the idle containers of a shim by those that the shim has
    /// listed.
    pub fn set_processes(&mut self, epoch: &str, answer: ProcessesResponse) {
        let rows = answer
            .processes
            .into_iter()
            .map(|one| (one.process.get_or_default().entity_id.clone(), one));
        let idle = answer.idle.into_iter().map(|one| (one.id.clone(), one));
        let shim = self.shim_mut(epoch);
        shim.processes = ShimList { as_of_seq: answer.seq, rows: rows.collect() };
        shim.lineages.compare_with_list(shim.processes.rows.keys().map(String::as_str));
        for (entity_id, one) in &shim.processes.rows {
            let parent = &one.process.get_or_default().parent.get_or_default().entity_id;
            shim.lineages.record_seen(entity_id, parent);
        }
        shim.idle = ShimList { as_of_seq: answer.seq, rows: idle.collect() };
    }

    /// Replaces the open ports of a shim by those that the shim has listed. A port that no event
    /// has reported is left out, because no event would report its closing either.
    pub fn set_ports(&mut self, epoch: &str, answer: PortsResponse) {
        let reported = answer.ports.into_iter().filter(|one| !one.listed_only);
        let rows = reported.map(|one| {
            (port_key(&one.container.get_or_default().id, one.port.get_or_default()), one)
        });
        self.shim_mut(epoch).ports = ShimList { as_of_seq: answer.seq, rows: rows.collect() };
    }

    /// Applies an event of a shim to its part of the view. Returns whether events are missing, so
    /// that the shim has to be asked for its lists again.
    pub fn apply_event(&mut self, epoch: &str, event: &Event) -> bool {
        let shim = self.shim_mut(epoch);
        shim.note_lineage(event);
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
                    // After the exit of its init, a container has no further idle or active events.
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
                shim.ports.insert(event.seq, port_key(id, port), row);
            }
            (Some(Body::Port(port)), "port.close") => {
                shim.ports.remove(event.seq, &port_key(id, port))
            }
            (Some(Body::ContainerClose(_)), _) => {
                shim.processes.retain(event.seq, |one| one.container.get_or_default().id != *id);
                shim.ports.retain(event.seq, |one| one.container.get_or_default().id != *id);
                shim.idle.remove(event.seq, id);
            }
            _ => {}
        }
        false
    }

    /// Removes a shim that has ended, with the processes, ports and containers that it reported.
    pub fn remove_shim(&mut self, epoch: &str) {
        self.shims.remove(epoch);
    }

    /// The living processes of all containers, in the order of shims and creation times, so that
    /// parents usually come before their children.
    #[must_use]
    pub fn processes(&self) -> Vec<ContainerProcess> {
        self.processes_after(None).map(|(_, one)| one.clone()).collect()
    }

    /// The living processes after a position, with their positions.
    pub fn processes_after(
        &self,
        after: Option<ProcessPosition>,
    ) -> impl Iterator<Item = (ProcessPosition, &ContainerProcess)> {
        let first = after.as_ref().map(|after| after.epoch.clone()).unwrap_or_default();
        self.shims.range(first..).flat_map(move |(epoch, shim)| {
            let rows = shim.processes.rows.values();
            let mut list: Vec<_> = rows.map(|one| (ProcessPosition::of(epoch, one), one)).collect();
            list.retain(|(position, _)| after.as_ref().is_none_or(|after| position > after));
            list.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            list
        })
    }

    /// The living processes that descend from a process of a container, also those that a
    /// process between, which has ended, has forked.
    #[must_use]
    pub fn descendants(&self, entity_id: &str) -> Vec<ContainerProcess> {
        let of_shim = |shim: &ShimView| {
            let ids = shim.lineages.descendants(entity_id);
            ids.iter().filter_map(|id| shim.processes.rows.get(id).cloned()).collect::<Vec<_>>()
        };
        self.shims.values().flat_map(of_shim).collect()
    }

    /// The idle containers of the node, in the order of shims and container ids.
    #[must_use]
    pub fn idle_containers(&self) -> Vec<Container> {
        self.shims.values().flat_map(|shim| shim.idle.rows.values().cloned()).collect()
    }

    /// The open ports after a position, by shim, container, transport and number, with their
    /// positions.
    pub fn ports_after(
        &self,
        after: Option<PortPosition>,
    ) -> impl Iterator<Item = (PortPosition, &ContainerPort)> {
        let (first, after) = after.map(|PortPosition { epoch, key }| (epoch, key)).unzip();
        let first = first.unwrap_or_default();
        self.shims.range(first.clone()..).flat_map(move |(epoch, shim)| {
            let after = after.clone().filter(|_| *epoch == first);
            let after = after.map_or(Bound::Unbounded, Bound::Excluded);
            shim.ports
                .rows
                .range((after, Bound::Unbounded))
                .map(|(key, one)| (PortPosition { epoch: epoch.clone(), key: key.clone() }, one))
        })
    }

    /// The number of living processes, and the number of open ports, of all containers.
    #[must_use]
    pub fn process_and_port_counts(&self) -> (usize, usize) {
        let of = |shim: &ShimView| (shim.processes.rows.len(), shim.ports.rows.len());
        self.shims.values().map(of).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn shim_mut(&mut self, epoch: &str) -> &mut ShimView {
        self.shims.entry(epoch.to_owned()).or_default()
    }
}

impl ShimView {
    /// Records a fork or an exit in the lineages, also one that came before the list: it has links
    /// to processes that were dead when the list was made.
    fn note_lineage(&mut self, event: &Event) {
        let Some(Body::Process(process)) = &event.body else { return };
        let parent = &process.parent.get_or_default().entity_id;
        match event.type_.as_str() {
            "process.fork" => self.lineages.record_fork(&process.entity_id, parent),
            "process.start" | "process.exec" => {
                self.lineages.record_seen(&process.entity_id, parent);
            }
            "process.exit" => self.lineages.record_exit(&process.entity_id),
            _ => {}
        }
    }
}

impl<K: Ord, T> ShimList<K, T> {
    fn insert(&mut self, seq: u64, key: K, row: T) {
        if self.is_after_list(seq) {
            self.rows.insert(key, row);
        }
    }

    fn remove(&mut self, seq: u64, key: &K) {
        if self.is_after_list(seq) {
            self.rows.remove(key);
        }
    }

    fn retain(&mut self, seq: u64, stays: impl Fn(&T) -> bool) {
        if self.is_after_list(seq) {
            self.rows.retain(|_, row| stays(row));
        }
    }

    /// Whether the event with this sequence number came after the list, so that it has to be
    /// applied. An event without a sequence number always applies.
    fn is_after_list(&self, seq: u64) -> bool {
        seq == 0 || seq > self.as_of_seq
    }
}

fn port_key(container_id: &str, port: &Port) -> PortKey {
    let Port { transport, address, network_namespace, .. } = port;
    let (transport, address) = (transport.clone(), address.clone());
    (container_id.to_owned(), transport, port.port, address, port.dual_stack, *network_namespace)
}

#[cfg(test)]
mod tests;
