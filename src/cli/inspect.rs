//! `lookout inspect`: all that is known of one container, also after its end.

use std::{io, ops::ControlFlow};

use super::{
    args::{ContainerOptions, InspectArgs},
    exit::{Exit, Failure},
    history::{HistoryReader, Past},
    output::{Output, Style},
    render::{self, inspect::Inspected},
    select,
    sink::EventSink,
    stream,
};
use crate::{
    api::{Container, Event, Filter, event::Body},
    client::{FollowOptions, Registration, Shim, ShimError, json::Capability},
};

pub(super) async fn run(args: InspectArgs, out: &mut Output) -> Result<Exit, Failure> {
    let options = ContainerOptions::of_container(args.container, args.namespace, args.display);
    let (registrations, scope) = select::sources(&options, false).await?;
    let style = Style::for_stdout(args.display);
    let mut exit = Exit::Ok;
    for container in scope.containers() {
        let of_namespace = |one: &&Registration| one.namespace == container.namespace;
        let mut shims: Vec<Option<&Registration>> =
            registrations.iter().filter(of_namespace).map(Some).collect();
        if shims.is_empty() {
            shims.push(None);
        }
        for &shim in &shims {
            let (known, ended) = collect(container, shim, args.display.quiet).await?;
            // Several pods can have one name; then each of their shims is asked for each container.
            if shims.len() > 1 && known.events.is_empty() && known.processes.is_empty() {
                continue;
            }
            exit = exit.max(ended);
            out.write(&render::inspect::page(&known, args.output, style))?;
        }
    }
    Ok(exit)
}

/// Collects what the shim and the daemon's history know of a container, and the exit status:
/// [`Exit::Incomplete`] if events are missing.
async fn collect(
    container: &Container,
    shim: Option<&Registration>,
    is_quiet: bool,
) -> Result<(Inspected, Exit), Failure> {
    let mut known = Inspected { container: container.clone(), ..Inspected::default() };
    if let Some(registration) = shim {
        ask_shim(registration, &mut known).await?;
    }
    let id = container.id.clone();
    let filters = vec![Filter { container_id: id.clone(), ..Default::default() }];
    let wanted = FollowOptions { filters: filters.clone(), ..FollowOptions::default() };
    let past = Past {
        filters,
        namespace: Some(container.namespace.clone()),
        container: Some(id),
        ..Past::default()
    };
    let history = HistoryReader::open(&past, is_quiet).await;
    let sources = shim.into_iter().map(|one| (one.clone(), wanted.clone())).collect();
    let mut collector = Collector { known };
    let read = stream::read_journals(sources, history, is_quiet, &mut collector).await?;
    let exit = match read.exit {
        Exit::Ok if collector.known.lost.is_any() => Exit::Incomplete,
        exit => exit,
    };
    Ok((collector.known, exit))
}

/// Asks the shim for the present.
async fn ask_shim(registration: &Registration, known: &mut Inspected) -> Result<(), ShimError> {
    let shim = Shim::connect(registration.clone()).await?;
    let id = known.container.id.as_str();
    known.capabilities =
        shim.capabilities().await?.categories.iter().map(Capability::from).collect();
    // A shim of an older version may not have the method `Status`.
    known.status = shim.status().await.ok();
    match shim.processes(id).await {
        Ok(answer) => {
            (known.processes, known.is_idle) = (answer.processes, !answer.idle.is_empty());
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    match shim.ports(id).await {
        Ok(answer) => known.ports = answer.ports,
        Err(error) if error.is_answer() => {}
        Err(error) => return Err(error),
    }
    known.shim = Some(registration.clone());
    Ok(())
}

struct Collector {
    known: Inspected,
}

impl EventSink for Collector {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        let known = &mut self.known;
        match &event.body {
            // The beginning of a journal is missing, which concerns every container of the shim, or
            // the end of a shim.
            Some(Body::Gap(gap)) if event.seq == 0 => known.lost.add_gap(gap),
            _ if event.container.get_or_default().id == known.container.id => {
                if let Some(Body::ContainerStart(_)) = &event.body {
                    // An id can be used again. The page is of the last container with it.
                    known.events.clear();
                }
                if event.container.is_described() {
                    known.container.describe(&event.container);
                }
                known.events.push(event.clone());
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
