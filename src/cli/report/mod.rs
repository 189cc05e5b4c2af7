//! `lookout report`: the life of one container as one document.
//!
//! ```text
//!  events ─▶ build, process ─▶ tree ─▶ model ─┬▶ html
//!                                             ├▶ markdown
//!                                             ├▶ perfetto
//!                                             └▶ JSON, which is the model itself
//! ```
//!
//! Everything below [`run`] is pure: it has no I/O and reads no clock.

mod build;
mod html;
mod markdown;
mod model;
mod perfetto;
mod process;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    io::{self, IsTerminal as _},
    ops::ControlFlow,
};

use futures::future::join_all;

use self::build::{Builder, Window};
use super::{
    args::{ContainerOptions, DisplayOptions, ReportArgs, ReportFormat},
    clock::now_ns,
    exit::{Exit, Failure},
    history::HistoryReader,
    output::Output,
    select::{self, Scope},
    shim_set::ShimSet,
    stream::{self, EventSink, gap_filter},
};
use crate::{
    api::{Event, Filter, event::Body},
    client::{FollowOptions, Registration, json},
};

pub(super) async fn run(args: ReportArgs, out: &mut Output) -> Result<Exit, Failure> {
    if args.output == ReportFormat::Perfetto && io::stdout().is_terminal() {
        return Err(Failure::Invalid(
            "a trace of Perfetto is not text: redirect it to a file".to_owned(),
        ));
    }
    let is_quiet = args.quiet;
    let display = DisplayOptions { quiet: is_quiet, no_trunc: true, utc: true };
    let options = ContainerOptions::of_container(args.container, args.namespace, display);
    let (registrations, scope) = select::sources(&options, false).await?;
    refuse_several(&scope)?;
    let id = scope.only_id().unwrap_or_default().to_owned();
    let mut collected =
        Collected { scope, builder: Builder::default(), until_ns: args.until.unwrap_or(u64::MAX) };
    for container in collected.scope.containers() {
        collected.builder.name(container);
    }
    // The list comes first, so that the journals have the exits of all that it names.
    let lists = match args.until {
        None => living(&registrations, &id).await,
        Some(_) => Vec::new(),
    };
    let now_ns = now_ns();
    let filter = Filter { container_id: id, ..Default::default() };
    let wanted = FollowOptions { filters: vec![filter, gap_filter()], ..FollowOptions::default() };
    // Also from before `--since`: a process that began then may still have run.
    let past = super::history::Past {
        to_ns: args.until.unwrap_or_default(),
        ..collected.scope.past(&wanted.filters)
    };
    let past = HistoryReader::open(&past, is_quiet).await;
    let is_live = !registrations.is_empty();
    let sources = registrations.into_iter().map(|one| (one, wanted.clone())).collect();
    let exit = stream::read_journals(sources, past, is_quiet, &mut collected).await?.exit;
    let mut builder = collected.builder;
    for list in lists {
        let processes: Vec<_> =
            list.processes.into_iter().filter_map(|one| one.process.into_option()).collect();
        builder.add_living(&list.epoch, list.seq, &processes);
    }
    let report = builder.finish(Window {
        since_ns: args.since.unwrap_or_default(),
        runs_until_ns: match args.until {
            Some(until_ns) => Some(until_ns.min(now_ns)),
            None => is_live.then_some(now_ns),
        },
    });
    match args.output {
        ReportFormat::Html => out.write(&html::page(&report)?)?,
        ReportFormat::Md => out.write(&markdown::page(&report))?,
        ReportFormat::Json => out.write(&(json::to_line(&report) + "\n"))?,
        ReportFormat::Perfetto => out.write_bytes(&perfetto::trace(&report))?,
    }
    Ok(if exit == Exit::Ok && !report.gaps.is_empty() { Exit::Incomplete } else { exit })
}

/// A report is about one container, and a name in Kubernetes can be that of several.
fn refuse_several(scope: &Scope) -> Result<(), Failure> {
    let mut names: Vec<String> =
        scope.containers().iter().map(|one| format!("{}/{}", one.namespace, one.id)).collect();
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 | 1 => Ok(()),
        several => Err(Failure::Ambiguous(format!(
            "a report is about one container, and {several} have this name: {}",
            names.join(", ")
        ))),
    }
}

/// The living processes of a container, as far as shims answer. A shim that does not is reported
/// when its journal is read.
async fn living(registrations: &[Registration], id: &str) -> Vec<crate::api::ProcessesResponse> {
    let set = ShimSet::connect(registrations.to_vec(), true).await;
    join_all(set.shims.iter().map(|shim| shim.processes(id))).await.into_iter().flatten().collect()
}

/// Passes the events of the container to the builder.
struct Collected {
    scope: Scope,
    builder: Builder,
    until_ns: u64,
}

impl EventSink for Collected {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if let Some(Body::Hello(hello)) = &event.body {
            for container in hello.containers.iter().filter(|one| self.scope.has(one)) {
                self.builder.name(container);
            }
            return Ok(ControlFlow::Continue(()));
        }
        // A gap of the stream itself has the time of the request.
        if self.scope.includes(event) && (event.seq == 0 || event.time_ns < self.until_ns) {
            self.builder.add(event);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
