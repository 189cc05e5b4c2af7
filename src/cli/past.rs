//! The processes of containers at a time in the past, from the daemon's history and from the
//! journals of the shims.

use std::{collections::HashMap, io, ops::ControlFlow};

use super::{
    args::ContainerOptions,
    exit::{Exit, Failure},
    history::{self, HistoryReader, Past},
    select::{self, Scope},
    sink::EventSink,
    stream::{self, gap_filter},
};
use crate::{
    api::{ContainerProcess, Event, Filter, Process, event::Body},
    client::FollowOptions,
};

/// How long after the time an event may be read that happened before it: those of two shims are
/// ordered by time, and those of one shim come in the order of its observation.
const ORDER_SLACK_NS: u64 = 1_000_000_000;

/// The processes that lived at a time, parents not necessarily before their children.
pub(super) async fn processes_at(
    common: &ContainerOptions,
    at_ns: u64,
) -> Result<(Vec<ContainerProcess>, Exit), Failure> {
    let is_quiet = common.display.quiet;
    let (registrations, scope) = select::sources(common, false).await?;
    let types = ["process.*", "container.*"].map(str::to_owned).to_vec();
    let container_id = scope.only_id().unwrap_or_default().to_owned();
    let filters = vec![Filter { types, container_id, ..Default::default() }, gap_filter()];
    // A process that lives has an event after the beginning of its container.
    let records = history::records(common.namespace.as_deref()).await;
    let lived = records
        .iter()
        .filter(|one| one.first_ns <= at_ns && one.ended_ns.is_none_or(|ended| at_ns <= ended));
    let from_ns = lived.map(|one| one.first_ns).min().unwrap_or(at_ns);
    let past = Past { from_ns, to_ns: at_ns + ORDER_SLACK_NS, ..scope.past(&filters) };
    let past = HistoryReader::open(&past, is_quiet).await;
    let wanted = FollowOptions { filters, ..FollowOptions::default() };
    let sources = registrations.into_iter().map(|one| (one, wanted.clone())).collect();
    let mut living = LivingAt { at_ns, scope, processes: HashMap::new(), has_gap: false };
    let read = stream::read_journals(sources, past, is_quiet, &mut living).await?;
    let exit = match read.exit {
        Exit::Ok if living.has_gap => Exit::Incomplete,
        exit => exit,
    };
    let mut processes: Vec<ContainerProcess> = living.processes.into_values().collect();
    processes.sort_by_key(|one| {
        let process = one.process.get_or_default();
        (process.created_ns, process.pid)
    });
    Ok((processes, exit))
}

/// Follows events up to a time, and keeps the processes that live then.
struct LivingAt {
    at_ns: u64,
    scope: Scope,
    /// By the id of the container, the pid and the entity id.
    processes: HashMap<(String, i32, String), ContainerProcess>,
    has_gap: bool,
}

impl LivingAt {
    fn note(&mut self, event: &Event, process: &Process) {
        let container = event.container.get_or_default();
        let key = (container.id.clone(), process.pid, process.entity_id.clone());
        match event.type_.as_str() {
            "process.exit" => drop(self.processes.remove(&key)),
            // These come after the exit, or say nothing about whether it lives.
            "process.done" | "process.held" | "process.oom_kill" | "exec.left" => {}
            _ => {
                let (container, process) = (event.container.clone(), Some(process.clone()).into());
                let living = ContainerProcess { container, process, ..Default::default() };
                self.processes.insert(key, living);
            }
        }
    }
}

impl EventSink for LivingAt {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        // A hello, and a gap at the beginning of a journal, have the time of this request.
        let has_time = match &event.body {
            Some(Body::Gap(_)) => !history::is_of_journal(event),
            _ => event.seq != 0,
        };
        if has_time && event.time_ns > self.at_ns {
            let is_past = event.time_ns > self.at_ns + ORDER_SLACK_NS;
            return Ok(if is_past { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        }
        if !self.scope.includes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        match &event.body {
            Some(Body::Process(process)) => self.note(event, process),
            Some(Body::ContainerClose(_)) => {
                let id = &event.container.get_or_default().id;
                self.processes.retain(|(of, ..), _| of != id);
            }
            Some(Body::Gap(_)) => self.has_gap = true,
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
