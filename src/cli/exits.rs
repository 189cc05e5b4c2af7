//! `lookout exits`.

use std::{io, ops::ControlFlow, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    args::{ExitsArgs, ListFormat},
    events::{gaps, is_anothers},
    exit::{Exit, Failure},
    note,
    output::{Output, Style},
    reach::{Reach, registered},
    render::exits as render,
    stream::{self, Ending, Sink},
};
use crate::{
    api::{self, Event, Filter, event::Body},
    client::{Registration, Shim, Shims, Wanted, runtime_dir},
};

/// Between two attempts to connect again.
const RETRY: Duration = Duration::from_millis(500);
/// What containerd says of an exit that nobody saw.
const UNKNOWN_STATUS: u32 = 255;
/// Batches that wait to be printed. When it is full, shims wait to be read.
const WAITING: usize = 64;

pub(super) async fn run(args: ExitsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let look = args.common.look;
    let style = Style::of_stdout(look.no_trunc, look.quiet);
    let container = args.common.container.clone();
    let mut printer = Printer { format: args.output, style, out, container, is_empty: true, has_gap: false };
    let exit = if args.follow {
        printer.begin()?;
        follow(&args, &mut printer).await?
    } else {
        let registrations = match &args.common.container {
            Some(_) => Reach::of(&args.common).await?.shims.into_iter().map(|shim| shim.registration).collect(),
            None => registered(args.common.namespace.as_deref())?,
        };
        printer.begin()?;
        let wanted = Wanted { filters: filters(printer.container.as_deref()), ..Default::default() };
        let sources = registrations.into_iter().map(|one| (one, wanted.clone())).collect();
        stream::read(sources, look.quiet, &mut printer).await?
    };
    printer.end()?;
    Ok(if exit == Exit::Ok && printer.has_gap { Exit::Incomplete } else { exit })
}

/// What a journal is asked for: as the shim's own stream of exits.
fn filters(container: Option<&str>) -> Vec<Filter> {
    let types = vec!["process.exit".to_owned()];
    let exits = Filter { types, container_id: container.unwrap_or_default().to_owned(), ..Default::default() };
    vec![exits, gaps()]
}

async fn follow(args: &ExitsArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let mut ending = Ending::new()?;
    let mut shims = Shims::new(runtime_dir(), args.common.namespace.clone());
    let mut readers = JoinSet::new();
    let (sender, mut receiver) = mpsc::channel::<Batch>(WAITING);
    let container = args.common.container.clone().unwrap_or_default();
    let mut exit = Exit::Ok;
    loop {
        tokio::select! {
            biased;
            () = ending.asked() => break,
            new = shims.next() => {
                let new = new.map_err(|error| Failure::Unreachable(anyhow::Error::new(error).context("failed to look for shims")))?;
                for registration in new {
                    readers.spawn(pump(registration, container.clone(), sender.clone(), args.common.look.quiet));
                }
            }
            Some(end) = readers.join_next() => exit = exit.max(end.unwrap_or(Exit::Failed)),
            // The last: shims that never rest must not hide the others.
            Some((namespace, batch)) = receiver.recv() => printer.batch(&namespace, &batch)?,
        }
    }
    readers.abort_all();
    while let Ok((namespace, batch)) = receiver.try_recv() {
        printer.batch(&namespace, &batch)?;
    }
    Ok(exit)
}

type Batch = (String, Vec<api::Exit>);

/// One shim's exits until it has gone. This stream has no cursor: where it broke, some may be missing.
async fn pump(registration: Registration, container: String, sender: mpsc::Sender<Batch>, is_quiet: bool) -> Exit {
    let mut exit = Exit::Ok;
    loop {
        let failure = match exits(&registration, &container, &sender).await {
            Ok(()) if !registration.is_alive() => return exit,
            Ok(()) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
            if exit == Exit::Ok && !is_quiet {
                note(&format!("exits of shim {} may be missing: {:#}", registration.id, anyhow::Error::from(error)));
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
            Err(source) => return Err(crate::client::ShimError::Failed { id: registration.id.clone(), source }),
        }
    }
}

struct Printer<'a> {
    format: ListFormat,
    style: Style,
    out: &'a mut Output,
    container: Option<String>,
    is_empty: bool,
    has_gap: bool,
}

impl Printer<'_> {
    fn begin(&mut self) -> io::Result<()> {
        self.out.write(&render::header(self.format, self.style))?;
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write(render::footer(self.format, self.is_empty))?;
        self.out.flush()
    }

    fn exit(&mut self, namespace: &str, exit: &api::Exit) -> io::Result<()> {
        self.out.write(&render::exit(exit, namespace, self.format, self.is_empty, self.style))?;
        self.is_empty = false;
        Ok(())
    }

    fn batch(&mut self, namespace: &str, batch: &[api::Exit]) -> io::Result<()> {
        batch.iter().try_for_each(|exit| self.exit(namespace, exit))?;
        self.out.flush()
    }
}

impl Sink for Printer<'_> {
    fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if is_anothers(event, self.container.as_deref()) {
            return Ok(ControlFlow::Continue(()));
        }
        self.has_gap |= matches!(event.body, Some(Body::Gap(_)));
        let Some(Body::Process(process)) = &event.body else { return Ok(ControlFlow::Continue(())) };
        let container = event.container.get_or_default();
        let exit = api::Exit {
            timestamp_ns: event.time_ns,
            pid: process.pid,
            status: process.ended.as_ref().and_then(|ended| ended.status).unwrap_or(UNKNOWN_STATUS),
            container_id: container.id.clone(),
            exec_id: process.exec_id.clone(),
            ..Default::default()
        };
        self.exit(&container.namespace, &exit)?;
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
