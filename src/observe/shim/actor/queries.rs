//! Queries: what clients and the shim ask of the observer thread.

use std::{collections::BTreeMap, sync::Arc};

use super::{super::message::Query, Actor};
use crate::{
    model::Container,
    observe::{
        record::{PortPosition, Position, TargetId},
        shim::service::{LiveProcesses, OpenPort, OpenPorts},
    },
};

/// How many ports one answer has at most. Each has up to 32 owners, which are copied for it.
const PORTS_AT_ONCE: usize = 1024;

impl Actor {
    pub(super) fn answer(&mut self, query: Query) {
        // A send fails if the client has disconnected in the meantime.
        match query {
            Query::Processes { container_id, after, reply } => {
                let _ = reply.send(self.live_processes(&container_id, after));
            }
            Query::Ports { container_id, after, reply } => {
                let _ = reply.send(self.open_ports(&container_id, after));
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

    /// The open ports of a container after a position, or of all containers if the id is empty.
    fn open_ports(&mut self, container_id: &str, after: Option<PortPosition>) -> Option<OpenPorts> {
        let first = after.map_or(TargetId(0), |after| after.target);
        let mut ports = Vec::new();
        for (target, container) in self.select(container_id)?.range(first..) {
            let after = after.filter(|after| after.target == *target).map(|after| after.key);
            // One more shows whether these are the last.
            let most = PORTS_AT_ONCE + 1 - ports.len();
            if most == 0 {
                break;
            }
            let open = self.pipeline.ports(*target, after, most).into_iter();
            ports.extend(open.map(|(key, port)| OpenPort {
                position: PortPosition { target: *target, key },
                container: container.clone(),
                port,
            }));
        }
        let is_last = ports.len() <= PORTS_AT_ONCE;
        ports.truncate(PORTS_AT_ONCE);
        // As in the query above, the events are appended before the sequence number is read.
        self.append_events();
        Some(OpenPorts { ports, is_last, seq: self.shared.event_log.seq() })
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
