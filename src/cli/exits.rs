//! `lookout exits`.

use std::{io, ops::ControlFlow, time::Duration};

use tokio::sync::mpsc;

use super::{
    args::{ExitsArgs, ListFormat},
    exit::{Exit, Failure},
    note,
    output::{Output, Style},
    reach::{Reach, registered},
    render::exits as render,
    stream::{self, Asked, Sink, Take, gaps},
};
use crate::{
    api::{self, Event, Filter},
    client::{Registration, Shim, Wanted},
    observe::encode,
};

/// Between two attempts to connect again.
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(args: ExitsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let look = args.common.look;
    let style = Style::of_stdout(look.no_trunc, look.quiet);
    let asked = Asked::new(args.common.container.clone());
    let mut printer = Printer { format: args.output, style, out, asked, is_empty: true };
    let exit = if args.follow {
        printer.out.write_now(&render::header(args.output, style))?;
        let (container, namespace) =
            (args.common.container.unwrap_or_default(), args.common.namespace);
        let read = |registration, sender| pump(registration, container.clone(), sender, look.quiet);
        // Other shims go on.
        stream::gather(namespace, read, |_| false, &mut printer).await?
    } else {
        let registrations = match &args.common.container {
            Some(_) => Reach::of(&args.common)
                .await?
                .shims
                .into_iter()
                .map(|shim| shim.registration)
                .collect(),
            None => registered(args.common.namespace.as_deref())?,
        };
        printer.out.write_now(&render::header(args.output, style))?;
        let wanted =
            Wanted { filters: filters(printer.asked.container.as_deref()), ..Default::default() };
        let sources = registrations.into_iter().map(|one| (one, wanted.clone())).collect();
        stream::read(sources, look.quiet, &mut printer).await?
    };
    printer.out.write_now(render::footer(args.output, printer.is_empty))?;
    Ok(if exit == Exit::Ok && printer.asked.has_gap { Exit::Incomplete } else { exit })
}

/// What a journal is asked for: as the shim's own stream of exits.
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

/// One shim's exits until it has gone. This stream has no cursor: where it broke, some may be
/// missing.
async fn pump(
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

async fn exits(
    registration: &Registration,
    container: &str,
    sender: &mpsc::Sender<Batch>,
) -> Result<(), crate::client::ShimError> {
    let mut stream = Shim::connect(registration.clone()).await?.exits(container).await?;
    loop {
        match stream.recv().await {
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
    asked: Asked,
    is_empty: bool,
}

impl Printer<'_> {
    fn exit(&mut self, namespace: &str, exit: &api::Exit) -> io::Result<()> {
        self.out.write(&render::exit(exit, namespace, self.format, self.is_empty, self.style))?;
        self.is_empty = false;
        Ok(())
    }
}

impl Take<Batch> for Printer<'_> {
    fn take(&mut self, (namespace, batch): Batch) -> io::Result<ControlFlow<()>> {
        batch.iter().try_for_each(|exit| self.exit(&namespace, exit))?;
        Ok(ControlFlow::Continue(()))
    }
}

impl Sink for Printer<'_> {
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !self.asked.takes(event) {
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
