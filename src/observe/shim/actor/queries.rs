//! Queries: what clients and the shim ask of the observer thread.

use std::{collections::BTreeMap, sync::Arc};

use super::{super::message::Query, Actor};
use crate::{
    model::Container,
    observe::{
        record::{Position, TargetId},
        shim::service::{LiveProcesses, OpenPort, OpenPorts},
    },
};

impl Actor {
    pub(super) fn answer(&mut self, query: Query) {
        // A send fails if the client has disconnected in the meantime.
        match query {
            Query::Processes { container_id, after, reply } => {
                let _ = reply.send(self.live_processes(&container_id, after));
            }
            Query::Ports { container_id, reply } => {
                let _ = reply.send(self.open_ports(&container_id));
            }
            Query::Stop { stopped } => {
                self.append_events();
                // `run` sends the reply, after the source is closed as well.
                self.stop_reply = Some(stopped);
            }
        }
    }

    /// The living processes of a container after a position, or of all containers if the id is
    /// empty.
    fn live_processes(&mut self, container_id: &str, after: Position) -> Option<LiveProcesses> {
        // The sequence number below must cover every event that the answer includes.
        self.append_events();
        let selected = self.select(container_id)?;
        let processes = self.pipeline.processes_after(after).into_iter();
        let processes = processes.filter_map(|(position, process)| {
            Some((position, selected.get(&position.target)?.clone(), process))
        });
        let is_first = after == Position::default();
        let idle = selected.iter().filter(|(id, _)| is_first && self.pipeline.is_idle(**id));
        Some(LiveProcesses {
            processes: processes.collect(),
            idle: idle.map(|(_, container)| container.clone()).collect(),
            seq: self.shared.event_log.seq(),
        })
    }

    /// The open ports of a container, or of all containers if the id is empty.
    fn open_ports(&mut self, container_id: &str) -> Option<OpenPorts> {
        let mut open = Vec::new();
        for (id, container) in self.select(container_id)? {
            let [reported, listed] = self.pipeline.ports(id);
            let reported = reported.into_iter().map(|port| (port, false));
            let all = reported.chain(listed.into_iter().map(|port| (port, true)));
            open.extend(all.map(|(port, listed_only)| OpenPort {
                container: container.clone(),
                port,
                listed_only,
            }));
        }
        // As in the query above, the events are appended before the sequence number is read.
        self.append_events();
        Some((open, self.shared.event_log.seq()))
    }

    /// The observed containers with this id, or all of them if it is empty. `None` if a container
    /// is named and not observed.
    fn select(&self, container_id: &str) -> Option<BTreeMap<TargetId, Arc<Container>>> {
        let selected: BTreeMap<_, _> = self
            .containers
            .iter()
            .filter(|(_, container)| container_id.is_empty() || container.id == container_id)
            .map(|(id, container)| (*id, container.clone()))
            .collect();
        (container_id.is_empty() || !selected.is_empty()).then_some(selected)
    }
}
