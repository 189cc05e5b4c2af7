//! `lookout wait`: returns when something has happened in a container.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    args::{ContainerOptions, WaitArgs},
    exit::{Exit, Failure},
    output::{Output, Style},
    print_message,
    render::events::{command_text, end_text, what_text},
    shim_set::ShimSet,
};
use crate::{
    api::{Event, Filter, Port, Process, event::Body},
    client::{EventFollower, FollowOptions, FollowStep, Shim},
    model::printable,
};

/// The result of waiting.
enum Waited {
    /// It happened; the line says what.
    Happened(String),
    /// The container ended, so that it cannot happen any more.
    Ended,
}

pub(super) async fn run(args: WaitArgs, out: &mut Output) -> Result<Exit, Failure> {
    let options = ContainerOptions::of_container(
        args.container.clone(),
        args.namespace.clone(),
        args.display,
    );
    let (set, scope) = ShimSet::select(&options, false).await?;
    let (Some(shim), Some(container)) = (set.shims.first(), scope.containers().first()) else {
        return Err(Failure::NotFound(args.container));
    };
    if set.shims.len() > 1 || scope.only_id().is_none() {
        return Err(Failure::Ambiguous(format!(
            "several containers are named {}; select one by its id and -n NAMESPACE",
            args.container
        )));
    }
    let limit = args.timeout.unwrap_or(Duration::MAX);
    let waited = match timeout(limit, wait(shim, &container.id, &args)).await {
        Ok(waited) => waited?,
        Err(_) => {
            if !args.display.quiet {
                print_message("the timeout has passed");
            }
            return Ok(Exit::Failed);
        }
    };
    match waited {
        Waited::Happened(line) if args.display.quiet => drop(line),
        Waited::Happened(line) => {
            out.write(&(Style::for_stdout(args.display).fit_to_width(&line) + "\n"))?;
        }
        Waited::Ended => {
            print_message(&format!("container {} has ended", args.container));
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Ok)
}

/// Waits for the first of the conditions. What is true already is found in the lists of the shim,
/// and what comes later in its events after the cursor of these lists, so that nothing between the
/// two is missed. What has ended already is found in the journal.
async fn wait(shim: &Shim, id: &str, args: &WaitArgs) -> Result<Waited, Failure> {
    let mut cursor = None;
    if !args.ports.is_empty() {
        let answer = shim.ports(id).await.or_else(not_found_is_empty)?;
        let is_wanted = |port: &&Port| args.ports.contains(&port.port);
        if let Some(port) = answer.ports.iter().filter_map(|one| one.port.as_ref()).find(is_wanted)
        {
            return Ok(Waited::Happened(port_line(port)));
        }
        cursor = Some((answer.epoch, answer.seq));
    }
    if !args.processes.is_empty() || args.idle {
        let answer = shim.processes(id).await.or_else(not_found_is_empty)?;
        let mut processes = answer.processes.iter().filter_map(|one| one.process.as_ref());
        if let Some(process) = processes.find(|process| is_named(process, &args.processes)) {
            return Ok(Waited::Happened(process_line(process)));
        }
        if args.idle && answer.idle.iter().any(|container| container.id == id) {
            return Ok(Waited::Happened("idle".to_owned()));
        }
        // The earlier cursor: an event between the two lists is seen again, which does no harm.
        cursor = cursor.or(Some((answer.epoch, answer.seq)));
    }
    let (epoch, listed) = cursor.unwrap_or_default();
    let filter = Filter { container_id: id.to_owned(), ..Default::default() };
    let mut events = EventFollower::new(
        shim.registration.clone(),
        FollowOptions { filters: vec![filter], follow: true, ..Default::default() },
    );
    loop {
        let step = match events.next().await {
            FollowStep::Events(events) => events,
            FollowStep::End | FollowStep::Broken(None) => return Ok(Waited::Ended),
            FollowStep::Broken(Some(error)) => return Err(error.into()),
        };
        for event in step {
            let is_new = event.epoch != epoch || event.seq > listed;
            if let Some(line) = line_of(&event, args, is_new) {
                return Ok(Waited::Happened(line));
            }
            if matches!(event.body, Some(Body::ContainerClose(_))) {
                return Ok(Waited::Ended);
            }
        }
    }
}

/// The line of an event that meets a condition. `is_new`: whether the lists of ports and processes
/// do not include it yet.
fn line_of(event: &Event, args: &WaitArgs, is_new: bool) -> Option<String> {
    match (&event.body, event.type_.as_str()) {
        (Some(Body::Port(port)), "port.open") if is_new && args.ports.contains(&port.port) => {
            Some(port_line(port))
        }
        (Some(Body::Process(process)), "process.start" | "process.exec")
            if is_new && is_named(process, &args.processes) =>
        {
            Some(process_line(process))
        }
        (Some(Body::Process(process)), "process.exit") => {
            let is_exec = process.origin == "exec" && args.execs.contains(&process.exec_id);
            let exec = || printable::safe_text(process.exec_id.as_bytes());
            match process.origin.as_str() {
                "exec" if is_exec => Some(format!("exec {}: {}", exec(), end_text(process))),
                "init" if args.exit => Some(format!("exit: {}", end_text(process))),
                _ => None,
            }
        }
        (Some(Body::ContainerIdle(_)), _) if is_new && args.idle => {
            Some(format!("idle: {}", what_text(event)))
        }
        (Some(Body::ContainerClose(_)), _) if args.exit => Some("exit".to_owned()),
        _ => None,
    }
}

/// Whether the file of a process, or its name, is one of these.
fn is_named(process: &Process, names: &[String]) -> bool {
    let path = process.executable.as_deref().unwrap_or_default();
    let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let comm = process.comm.as_deref().unwrap_or_default();
    let is_it = |name: &String| {
        [path, file, comm].iter().any(|text| !text.is_empty() && *text == name.as_bytes())
    };
    names.iter().any(is_it)
}

fn port_line(port: &Port) -> String {
    format!("port {}", super::render::ports::port_text(port, false))
}

fn process_line(process: &Process) -> String {
    format!("process {} {}", process.pid, command_text(process))
}

/// A container without processes or ports has an empty list; its events may show that it has ended.
fn not_found_is_empty<T: Default>(error: crate::client::ShimError) -> Result<T, Failure> {
    if error.is_not_found() { Ok(T::default()) } else { Err(error.into()) }
}
