//! `lookout exits`.

use std::{
    io,
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::{
    args::{ExitsArgs, ListFormat},
    exit::{Exit, Failure},
    note,
    output::{Output, Style},
    render::exits as render,
    shim_set::{ShimSet, registered},
    stream::{self, BatchSink, Scope, Sink, gaps},
};
use crate::{
    api::{self, Event, Filter, Gap, event::Body},
    client::{Registration, Shim, Wanted},
    model::Stage,
    observe::encode,
};

/// The pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(args: ExitsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let display = args.common.display;
    let style = Style::of_stdout(display.no_trunc, display.quiet);
    let scope = Scope::new(args.common.container.clone());
    let mut printer = Printer { format: args.output, style, out, scope, is_empty: true };
    let exit = if args.follow {
        printer.out.write_now(&render::header(args.output, style))?;
        let (container, namespace) =
            (args.common.container.unwrap_or_default(), args.common.namespace);
        let read =
            |registration, sender| forward(registration, container.clone(), sender, display.quiet);
        // A shim that ends does not end the command.
        stream::gather(namespace, read, |_| false, &mut printer).await?
    } else {
        let registrations = match &args.common.container {
            Some(_) => ShimSet::of(&args.common)
                .await?
                .shims
                .into_iter()
                .map(|shim| shim.registration)
                .collect(),
            None => registered(args.common.namespace.as_deref())?,
        };
        printer.out.write_now(&render::header(args.output, style))?;
        let wanted =
            Wanted { filters: filters(printer.scope.container.as_deref()), ..Default::default() };
        let sources = registrations.into_iter().map(|one| (one, wanted.clone())).collect();
        stream::read(sources, display.quiet, &mut printer).await?
    };
    printer.out.write_now(render::footer(args.output, printer.is_empty))?;
    Ok(if exit == Exit::Ok && printer.scope.has_gap { Exit::Incomplete } else { exit })
}

/// The filters that select exits from a journal, for the command without `-f`.
fn filters(container: Option<&str>) -> Vec<Filter> {
    let types = vec!["process.exit".to_owned()];
    let exits = Filter {
        types,
        container_id: container.unwrap_or_default().to_owned(),
        ..Default::default()
    };
    vec![exits, gaps()]
}

/// What one shim has sent.
enum Batch {
    /// Exits of containers in this namespace.
    Exits(String, Vec<api::Exit>),
    /// A stream broke: an unknown number of exits is missing.
    Gap,
}

/// Forwards the exits of one shim until the shim is gone. The stream of exits has no cursor: after
/// a reconnect, exits may be missing, and the result is [`Exit::Incomplete`].
async fn forward(
    registration: Registration,
    container: String,
    sender: mpsc::Sender<Batch>,
    is_quiet: bool,
) -> Exit {
    let mut exit = Exit::Ok;
    loop {
        let mut is_connected = false;
        let failure = match exits(&registration, &container, &sender, &mut is_connected).await {
            Ok(()) if !registration.is_alive() => return exit,
            Ok(()) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
            if is_connected && sender.send(Batch::Gap).await.is_err() {
                return exit;
            }
            if exit == Exit::Ok && !is_quiet {
                note(&format!(
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
        tokio::time::sleep(RETRY).await;
    }
}

/// Forwards the exits that one connection delivers, until the connection ends. Sets `is_connected`
/// when there is one.
async fn exits(
    registration: &Registration,
    container: &str,
    sender: &mpsc::Sender<Batch>,
    is_connected: &mut bool,
) -> Result<(), crate::client::ShimError> {
    let mut stream = Shim::connect(registration.clone()).await?.exits(container).await?;
    *is_connected = true;
    loop {
        match stream.recv().await {
            // The batch is a heartbeat.
            Ok(Some(batch)) if batch.exits.is_empty() => {}
            Ok(Some(batch)) => {
                let batch = Batch::Exits(registration.namespace.clone(), batch.exits);
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

struct Printer<'a> {
    format: ListFormat,
    style: Style,
    out: &'a mut Output,
    scope: Scope,
    is_empty: bool,
}

impl Printer<'_> {
    fn exit(&mut self, namespace: &str, exit: &api::Exit) -> io::Result<()> {
        self.out.write(&render::exit(exit, namespace, self.format, self.is_empty, self.style))?;
        self.is_empty = false;
        Ok(())
    }

    /// Prints a gap; nothing for another event.
    fn gap(&mut self, event: &Event) -> io::Result<()> {
        let text = render::gap(event, self.format, self.is_empty, self.style);
        self.is_empty &= text.is_empty();
        self.out.write(&text)
    }
}

/// The gap of a stream that has broken.
fn unknown_gap() -> Event {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let gap = Gap { stage: Stage::Subscriber.as_str().to_owned(), ..Default::default() };
    Event {
        type_: "observer.gap".to_owned(),
        time_ns: u64::try_from(now.as_nanos()).unwrap_or_default(),
        body: Some(Body::Gap(gap)),
        ..Default::default()
    }
}

impl BatchSink<Batch> for Printer<'_> {
    fn batch(&mut self, batch: Batch) -> io::Result<ControlFlow<()>> {
        match batch {
            Batch::Exits(namespace, exits) => {
                exits.iter().try_for_each(|exit| self.exit(&namespace, exit))?;
            }
            Batch::Gap => {
                self.scope.has_gap = true;
                self.gap(&unknown_gap())?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Sink for Printer<'_> {
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !self.scope.includes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        match encode::exit(event) {
            Some(exit) => self.exit(&event.container.get_or_default().namespace, &exit)?,
            None => self.gap(event)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
