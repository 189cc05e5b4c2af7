//! `lookout exits`: prints the exits of processes in containers.

use std::{
    io,
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::{
    args::{ExitsArgs, ListFormat},
    exit::{Exit, Failure},
    output::{Output, Style},
    print_message,
    render::exits as render,
    shim_set::{ShimSet, live_registrations},
    stream::{self, BatchSink, ContainerScope, EventSink, gap_filter},
};
use crate::{
    api::{self, Event, Filter, Gap, event::Body},
    client::{FollowOptions, Registration, Shim},
    model::Stage,
    observe::encode,
};

/// The pause between two attempts to connect to a shim.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(args: ExitsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let display = args.common.display;
    let style = Style::for_stdout(display.no_trunc, display.quiet);
    let scope = ContainerScope::new(args.common.container.clone());
    let mut printer = ExitPrinter { format: args.output, style, out, scope, is_empty: true };
    let exit = if args.follow {
        printer.out.write_now(&render::header(args.output, style))?;
        let (container, namespace) =
            (args.common.container.unwrap_or_default(), args.common.namespace);
        let read = |registration, sender| {
            forward_exits(registration, container.clone(), sender, display.quiet)
        };
        // The command continues with the other shims when a shim ends.
        stream::gather_batches(namespace, read, |_| false, &mut printer).await?
    } else {
        let registrations = match &args.common.container {
            Some(_) => ShimSet::connect_selected(&args.common)
                .await?
                .shims
                .into_iter()
                .map(|shim| shim.registration)
                .collect(),
            None => live_registrations(args.common.namespace.as_deref())?,
        };
        printer.out.write_now(&render::header(args.output, style))?;
        let wanted = FollowOptions {
            filters: exit_filters(printer.scope.container.as_deref()),
            ..Default::default()
        };
        let sources = registrations.into_iter().map(|one| (one, wanted.clone())).collect();
        stream::read_journals(sources, display.quiet, &mut printer).await?
    };
    printer.out.write_now(render::footer(args.output, printer.is_empty))?;
    Ok(if exit == Exit::Ok && printer.scope.has_gap { Exit::Incomplete } else { exit })
}

/// The filters that select exits from a journal, for the command without `-f`.
fn exit_filters(container: Option<&str>) -> Vec<Filter> {
    let types = vec!["process.exit".to_owned()];
    let exits = Filter {
        types,
        container_id: container.unwrap_or_default().to_owned(),
        ..Default::default()
    };
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
    format: ListFormat,
    style: Style,
    out: &'a mut Output,
    scope: ContainerScope,
    is_empty: bool,
}

impl ExitPrinter<'_> {
    fn print_exit(&mut self, namespace: &str, exit: &api::Exit) -> io::Result<()> {
        self.out.write(&render::format_exit(
            exit,
            namespace,
            self.format,
            self.is_empty,
            self.style,
        ))?;
        self.is_empty = false;
        Ok(())
    }

    /// Prints an event if it is a gap, and nothing otherwise.
    fn print_gap(&mut self, event: &Event) -> io::Result<()> {
        let text = render::format_gap(event, self.format, self.is_empty, self.style);
        self.is_empty &= text.is_empty();
        self.out.write(&text)
    }
}

/// A gap with an unknown number of losses, for a stream of exits that has broken.
fn gap_of_broken_stream() -> Event {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let gap = Gap { stage: Stage::Subscriber.as_str().to_owned(), ..Default::default() };
    Event {
        type_: "observer.gap".to_owned(),
        time_ns: u64::try_from(now.as_nanos()).unwrap_or_default(),
        body: Some(Body::Gap(gap)),
        ..Default::default()
    }
}

impl BatchSink<ExitBatch> for ExitPrinter<'_> {
    fn handle_batch(&mut self, batch: ExitBatch) -> io::Result<ControlFlow<()>> {
        match batch {
            ExitBatch::Exits(namespace, exits) => {
                exits.iter().try_for_each(|exit| self.print_exit(&namespace, exit))?;
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
            Some(exit) => self.print_exit(&event.container.get_or_default().namespace, &exit)?,
            None => self.print_gap(event)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
