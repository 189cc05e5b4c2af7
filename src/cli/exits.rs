//! `lookout exits`.

use std::{io, ops::ControlFlow, time::Duration};

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
    api::{self, Event, Filter},
    client::{Registration, Shim, Wanted},
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

type Batch = (String, Vec<api::Exit>);

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
        let failure = match exits(&registration, &container, &sender).await {
            Ok(()) if !registration.is_alive() => return exit,
            Ok(()) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
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

/// Forwards the exits that one connection delivers, until the connection ends.
async fn exits(
    registration: &Registration,
    container: &str,
    sender: &mpsc::Sender<Batch>,
) -> Result<(), crate::client::ShimError> {
    let mut stream = Shim::connect(registration.clone()).await?.exits(container).await?;
    loop {
        match stream.recv().await {
            // The batch is a heartbeat.
            Ok(Some(batch)) if batch.exits.is_empty() => {}
            Ok(Some(batch)) => {
                if sender.send((registration.namespace.clone(), batch.exits)).await.is_err() {
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
}

impl BatchSink<Batch> for Printer<'_> {
    fn batch(&mut self, (namespace, batch): Batch) -> io::Result<ControlFlow<()>> {
        batch.iter().try_for_each(|exit| self.exit(&namespace, exit))?;
        Ok(ControlFlow::Continue(()))
    }
}

impl Sink for Printer<'_> {
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !self.scope.includes(event) {
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(exit) = encode::exit(event) {
            self.exit(&event.container.get_or_default().namespace, &exit)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
