//! `lookout execs`: what ran in a container by exec requests, and what of it still lives.

use std::{collections::BTreeMap, io, ops::ControlFlow};

use futures::future::join_all;

use super::{
    args::ExecsArgs,
    exit::{Exit, Failure},
    hint_if_empty,
    output::{Output, Style},
    render::execs::{self as render, Exec},
    rows::select_and_sort,
    select::{self, Scope},
    shim_set::ShimSet,
    stream::{self, EventSink, gap_filter},
};
use crate::{
    api::{Container, Event, Filter, Process, event::Body},
    client::FollowOptions,
};

pub(super) async fn run(args: ExecsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (registrations, scope) = select::sources(&args.common, false).await?;
    let is_quiet = args.common.display.quiet;
    let filter = Filter {
        types: vec!["process.*".to_owned()],
        container_id: scope.only_id().unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let wanted = FollowOptions { filters: vec![filter, gap_filter()], ..Default::default() };
    let past = scope.open_past(&wanted.filters, is_quiet).await;
    let sources = registrations.iter().map(|one| (one.clone(), wanted.clone())).collect();
    let mut execs = Execs { scope, by_id: BTreeMap::new() };
    let exit = stream::read_journals(sources, past, is_quiet, &mut execs).await?.exit;
    let set = ShimSet::connect(registrations.clone(), true).await;
    for answer in join_all(set.shims.iter().map(|shim| shim.processes(""))).await {
        // A shim that does not answer was reported when its journal was read.
        for one in answer.map(|answer| answer.processes).unwrap_or_default() {
            execs.note_living(one.container.get_or_default(), one.process.get_or_default());
        }
    }
    let descriptions = set.descriptions().await;
    let has_gap = execs.scope.has_gap;
    let mut rows: Vec<Exec> = execs.by_id.into_values().collect();
    rows.iter_mut().for_each(|exec| descriptions.complete(Some(&mut exec.container)));
    rows.sort_by_key(|exec| exec.started_ns);
    rows.retain(|exec| !args.left || !exec.left().is_empty());
    let rows = select_and_sort(rows, &args.list, render::object)?;
    let rows = if args.all || args.list.sort.is_some() { rows } else { folded(rows) };
    let style = Style::for_stdout(args.common.display);
    out.write(&render::list(&rows, &args.list.output, style))?;
    if rows.is_empty() && exit == Exit::Ok {
        hint_if_empty(&registrations, "execs", &args.list.output, is_quiet);
    }
    Ok(if exit == Exit::Ok && has_gap { Exit::Incomplete } else { exit })
}

/// Puts neighbouring execs of the same command with the same result into one row, the last of them.
fn folded(execs: Vec<Exec>) -> Vec<Exec> {
    let mut rows: Vec<Exec> = Vec::new();
    for exec in execs {
        match rows.iter_mut().rev().find(|row| row.is_repeated_by(&exec)) {
            Some(row) => *row = Exec { times: row.times + 1, ..exec },
            None => rows.push(exec),
        }
    }
    rows
}

/// The execs in the events of all shims.
struct Execs {
    scope: Scope,
    /// By the namespace and the id of the container, and the id of the exec.
    by_id: BTreeMap<(String, String, String), Exec>,
}

impl Execs {
    fn exec_of(&mut self, container: &Container, process: &Process) -> &mut Exec {
        let key = (container.namespace.clone(), container.id.clone(), process.exec_id.clone());
        self.by_id.entry(key).or_insert_with(|| Exec {
            container: container.clone(),
            id: process.exec_id.clone(),
            times: 1,
            ..Exec::default()
        })
    }

    fn note_living(&mut self, container: &Container, process: &Process) {
        if process.exec_id.is_empty() || !self.scope.has(container) {
            return;
        }
        let exec = self.exec_of(container, process);
        exec.alive.push(process.pid);
        if process.origin == "exec" && exec.started_ns == 0 {
            (exec.started_ns, exec.process) = (process.created_ns, process.clone());
        }
    }
}

impl EventSink for Execs {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        let is_included = self.scope.includes(event);
        let (Some(Body::Process(process)), true) = (&event.body, is_included) else {
            return Ok(ControlFlow::Continue(()));
        };
        if process.exec_id.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let is_own = process.origin == "exec";
        let exec = self.exec_of(event.container.get_or_default(), process);
        match event.type_.as_str() {
            // An id can be used again after its exec was deleted.
            "process.start" if is_own && exec.ended_ns.is_some() => {
                *exec = Exec {
                    container: exec.container.clone(),
                    id: exec.id.clone(),
                    process: process.clone(),
                    started_ns: event.time_ns,
                    processes: 1,
                    times: 1,
                    ..Exec::default()
                };
            }
            "process.start" if is_own => {
                (exec.started_ns, exec.process) = (event.time_ns, process.clone());
                exec.processes += 1;
            }
            "process.exec" if is_own => exec.process = process.clone(),
            "process.exit" if is_own => {
                (exec.ended_ns, exec.process) = (Some(event.time_ns), process.clone());
                exec.started_ns = exec.started_ns.max(process.created_ns);
            }
            "process.fork" => exec.processes += 1,
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Ended;

    fn event(type_: &str, origin: &str, pid: i32, time_ns: u64, status: Option<u32>) -> Event {
        let ended =
            (type_ == "process.exit").then(|| Ended { status, code: status, ..Default::default() });
        let process = Process {
            pid,
            origin: origin.into(),
            exec_id: "probe".into(),
            args: vec!["sh".into()],
            ended: ended.into(),
            ..Default::default()
        };
        let container = Container { id: "web".into(), ..Default::default() };
        Event {
            type_: type_.into(),
            time_ns,
            seq: time_ns,
            container: Some(container).into(),
            body: Some(Body::Process(process)),
            ..Default::default()
        }
    }

    fn execs_of(events: &[Event]) -> Vec<Exec> {
        let mut execs = Execs { scope: Scope::default(), by_id: BTreeMap::new() };
        for event in events {
            assert!(execs.handle_event(event).unwrap().is_continue());
        }
        let living = Process { pid: 8, exec_id: "probe".into(), ..Default::default() };
        execs.note_living(&Container { id: "web".into(), ..Default::default() }, &living);
        execs.by_id.into_values().collect()
    }

    /// Check that an exec that has ended names the processes that it has left.
    #[test]
    fn an_exec_has_its_processes_and_those_that_it_has_left() {
        let mut events = vec![
            event("process.start", "exec", 7, 1, None),
            event("process.fork", "descendant", 8, 2, None),
            event("process.start", "descendant", 8, 3, None),
        ];
        let [running] = &execs_of(&events)[..] else { panic!("one exec") };
        assert_eq!((running.processes, running.ended_ns, running.left().len()), (2, None, 0));
        events.push(event("process.exit", "exec", 7, 4, Some(3)));
        let [ended] = &execs_of(&events)[..] else { panic!("one exec") };
        assert_eq!((ended.started_ns, ended.ended_ns, ended.left()), (1, Some(4), &[8][..]));
        // The id is used again.
        events.push(event("process.start", "exec", 9, 5, None));
        let [again] = &execs_of(&events)[..] else { panic!("one exec") };
        assert_eq!((again.process.pid, again.processes, again.ended_ns), (9, 1, None));
    }

    /// Check that repeated probes are one row, and that a probe with another result is not.
    #[test]
    fn repeated_probes_are_folded() {
        let probe = |id: u64, status: u32| Exec {
            id: format!("probe-{id}"),
            started_ns: id,
            ended_ns: Some(id + 1),
            process: Process {
                args: vec!["probe".into()],
                ended: Some(Ended { status: Some(status), ..Default::default() }).into(),
                ..Default::default()
            },
            times: 1,
            ..Exec::default()
        };
        let living = Exec { ended_ns: None, alive: vec![5], ..probe(9, 0) };
        let rows = folded(vec![probe(1, 0), probe(2, 0), probe(3, 1), probe(4, 0), living]);
        let rows: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.times)).collect();
        assert_eq!(rows, [("probe-4", 3), ("probe-3", 1), ("probe-9", 1)]);
    }
}
