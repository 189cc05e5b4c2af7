//! `lookout exits`: prints the exits of processes in containers.

use std::{io, ops::ControlFlow, time::Duration};

use tokio::sync::mpsc;

use super::{
    args::ExitsArgs,
    clock::now_ns,
    exit::{Exit, Failure},
    hint_if_empty,
    output::{Output, Style},
    print_message,
    render::exits::ExitRows,
    select::{self, Scope},
    stream::{self, BatchSink, EventSink, gap_filter},
};
use crate::{
    api::{self, Container, Event, Filter, Gap, event::Body},
    client::{FollowOptions, Registration, Shim},
    model::Stage,
    observe::encode,
};

/// The pause between two attempts to connect to a shim.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(args: ExitsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let display = args.common.display;
    let (registrations, scope) = select::sources(&args.common, args.follow).await?;
    let rows = ExitRows::new(args.output.clone(), Style::for_stdout(display));
    let mut printer = ExitPrinter { rows, out, scope };
    printer.out.write_now(&printer.rows.header())?;
    let container = printer.scope.only_id().unwrap_or_default().to_owned();
    let exit = if args.follow {
        let read = |registration, sender| {
            forward_exits(registration, container.clone(), sender, display.quiet)
        };
        // The command continues with the other shims when a shim ends.
        stream::gather_batches(args.common.namespace, read, |_| false, &mut printer).await?
    } else {
        let wanted = FollowOptions { filters: exit_filters(&container), ..Default::default() };
        let sources = registrations.iter().map(|one| (one.clone(), wanted.clone())).collect();
        let past = printer.scope.open_past(&exit_filters(&container), display.quiet).await;
        stream::read_journals(sources, past, display.quiet, &mut printer).await?.exit
    };
    printer.out.write_now(printer.rows.footer())?;
    if printer.rows.is_empty() && !args.follow && exit == Exit::Ok {
        hint_if_empty(&registrations, "exits", &args.output, display.quiet);
    }
    Ok(if exit == Exit::Ok && printer.scope.has_gap { Exit::Incomplete } else { exit })
}

/// The filters that select exits from a journal, for the command without `-f`.
fn exit_filters(container: &str) -> Vec<Filter> {
    let types = vec!["process.exit".to_owned()];
    let exits = Filter { types, container_id: container.to_owned(), ..Default::default() };
    vec![exits, gap_filter()]
}

/// A part of what one shim sends to `lookout exits -f`.
enum ExitBatch {
    /// Exits of containers in this namespace.
    Exits(String, Vec<api::Exit>),
    /// A stream broke: an unknown number of exits is missing.
    Gap,
}

/// Forwards the exits of one shim until the shim has ended. A stream of exits has no cursor: after
/// a reconnect, exits may be missing, and [`Exit::Incomplete`] is returned.
async fn forward_exits(
    registration: Registration,
    container: String,
    sender: mpsc::Sender<ExitBatch>,
    is_quiet: bool,
) -> Exit {
    let mut exit = Exit::Ok;
    loop {
        let mut is_connected = false;
        let failure =
            match forward_connection(&registration, &container, &sender, &mut is_connected).await {
                Ok(()) if !registration.is_alive() => return exit,
                Ok(()) => None,
                Err(error) => Some(error),
            };
        if let Some(error) = failure {
            if is_connected && sender.send(ExitBatch::Gap).await.is_err() {
                return exit;
            }
            if exit == Exit::Ok && !is_quiet {
                print_message(&format!(
                    "exits of shim {} may be missing: {:#}",
                    registration.id,
                    anyhow::Error::from(error)
                ));
            }
            exit = Exit::Incomplete;
        }
        if !registration.is_alive() || sender.is_closed() {
            return exit;
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Forwards the exits that one connection to a shim delivers, until the connection ends. Sets
/// `is_connected` once the connection is made.
async fn forward_connection(
    registration: &Registration,
    container: &str,
    sender: &mpsc::Sender<ExitBatch>,
    is_connected: &mut bool,
) -> Result<(), crate::client::ShimError> {
    let mut stream = Shim::connect(registration.clone()).await?.exits(container).await?;
    *is_connected = true;
    loop {
        match stream.recv().await {
            // A batch without exits is a heartbeat.
            Ok(Some(batch)) if batch.exits.is_empty() => {}
            Ok(Some(batch)) => {
                let batch = ExitBatch::Exits(registration.namespace.clone(), batch.exits);
                if sender.send(batch).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(source) => {
                return Err(crate::client::ShimError::Failed {
                    id: registration.id.clone(),
                    source,
                });
            }
        }
    }
}

struct ExitPrinter<'a> {
    rows: ExitRows,
    out: &'a mut Output,
    scope: Scope,
}

impl ExitPrinter<'_> {
    fn print_exit(&mut self, container: &Container, exit: &api::Exit) -> io::Result<()> {
        self.out.write(&self.rows.format(exit, container))
    }

    /// The container of an exit, with its names as far as they are known: a stream of exits has
    /// only the id.
    fn container_of(&self, namespace: &str, id: &str) -> Container {
        let is_it = |one: &&Container| one.id == id && one.namespace == namespace;
        let known = self.scope.containers().iter().find(is_it).cloned();
        known.unwrap_or_else(|| Container {
            namespace: namespace.to_owned(),
            id: id.to_owned(),
            ..Default::default()
        })
    }

    /// Prints an event if it is a gap, and nothing otherwise.
    fn print_gap(&mut self, event: &Event) -> io::Result<()> {
        self.out.write(&self.rows.format_gap(event))
    }
}

/// A gap with an unknown number of losses, for a stream of exits that has broken.
fn gap_of_broken_stream() -> Event {
    let gap = Gap { stage: Stage::Subscriber.as_str().to_owned(), ..Default::default() };
    Event {
        type_: "observer.gap".to_owned(),
        time_ns: now_ns(),
        body: Some(Body::Gap(gap)),
        ..Default::default()
    }
}

impl BatchSink<ExitBatch> for ExitPrinter<'_> {
    fn handle_batch(&mut self, batch: ExitBatch) -> io::Result<ControlFlow<()>> {
        match batch {
            ExitBatch::Exits(namespace, exits) => {
                for exit in exits {
                    let container = self.container_of(&namespace, &exit.container_id);
                    if self.scope.has(&container) {
                        self.print_exit(&container, &exit)?;
                    }
                }
            }
            ExitBatch::Gap => {
                self.scope.has_gap = true;
                self.print_gap(&gap_of_broken_stream())?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl EventSink for ExitPrinter<'_> {
    fn handle_event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !self.scope.includes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        match encode::exit(event) {
            Some(exit) => self.print_exit(event.container.get_or_default(), &exit)?,
            None => self.print_gap(event)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
