//! The commands that show current state: `ps`, `tree`, `capabilities` and `inspect`.

use futures::future::join_all;

use super::{
    args::{CapabilitiesArgs, Common, InspectArgs, ListFormat, PageFormat, PsArgs, TreeArgs},
    exit::{Exit, Failure},
    output::{Output, Style},
    render::{self, inspect::Inspected},
    shim_set::{ShimSet, find_container},
};
use crate::{
    api::{ContainerProcess, Filter, event::Body},
    client::{Follow, Shim, ShimError, Step, Wanted, json::Capability},
    observe::node,
    platform,
};

pub(super) async fn ps(args: PsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (processes, exit) = processes(&args.common).await?;
    let style = Style::of_stdout(args.common.display.no_trunc, args.common.display.quiet);
    out.write(&render::processes::list(&processes, args.output, style))?;
    Ok(exit)
}

pub(super) async fn tree(args: TreeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (processes, exit) = processes(&args.common).await?;
    let style = Style::of_stdout(args.common.display.no_trunc, args.common.display.quiet);
    out.write(&match args.output {
        PageFormat::Json => render::processes::list(&processes, ListFormat::Json, style),
        PageFormat::Table => render::tree::trees(&processes, style),
    })?;
    Ok(exit)
}

/// The live processes of all selected shims. Within a shim, parents come before children.
async fn processes(common: &Common) -> Result<(Vec<ContainerProcess>, Exit), Failure> {
    let mut set = ShimSet::of(common).await?;
    let container = common.container.as_deref().unwrap_or_default();
    let answers = join_all(set.shims.iter().map(|shim| shim.processes(container))).await;
    let mut processes = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => processes.extend(answer.processes),
            Err(error) if error.is_not_found() => {}
            Err(error) => set.report(error, common.display.quiet),
        }
    }
    Ok((processes, set.exit()))
}

pub(super) async fn capabilities(
    args: CapabilitiesArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let display = args.common.display;
    let mut set = match platform::HAS_SHIMS || args.common.container.is_some() {
        true => ShimSet::of(&args.common).await?,
        false => ShimSet { shims: Vec::new(), failed: false },
    };
    let mut answers = Vec::new();
    for answer in join_all(set.shims.iter().map(Shim::capabilities)).await {
        match answer {
            Ok(answer) => {
                answers.push(answer.categories.iter().map(Capability::from).collect::<Vec<_>>())
            }
            Err(error) => set.report(error, display.quiet),
        }
    }
    let categories = if answers.is_empty() {
        // There is no shim to ask: show what a shim could observe on this node.
        node::probe().categories().iter().map(Capability::from).collect()
    } else {
        render::capabilities::least(&answers)
    };
    let style = Style::of_stdout(display.no_trunc, display.quiet);
    out.write(&render::capabilities::page(&categories, args.output, style))?;
    Ok(set.exit())
}

pub(super) async fn inspect(args: InspectArgs, out: &mut Output) -> Result<Exit, Failure> {
    let id = args.container.as_str();
    let set = ShimSet::all(args.namespace.as_deref(), args.display.quiet)
        .await?
        .of_container(id, args.display.quiet)
        .await?;
    let style = Style::of_stdout(args.display.no_trunc, args.display.quiet);
    let mut exit = set.exit();
    for shim in &set.shims {
        let (known, is_complete) = collect(shim, id).await?;
        if !is_complete {
            exit = Exit::Incomplete;
        }
        out.write(&render::inspect::page(&shim.registration, &known, args.output, style))?;
    }
    Ok(exit)
}

/// Collects all information of a shim about a container. The second value is false if the journal
/// no longer has all events, or could not be read to its end.
async fn collect(shim: &Shim, id: &str) -> Result<(Inspected, bool), ShimError> {
    let mut known = Inspected {
        container: find_container(shim, id).await?.unwrap_or_default(),
        capabilities: shim.capabilities().await?.categories.iter().map(Capability::from).collect(),
        // A shim of an older version may not have this method.
        status: shim.status().await.ok(),
        ..Default::default()
    };
    match shim.processes(id).await {
        Ok(answer) => {
            (known.processes, known.is_idle) = (answer.processes, !answer.idle.is_empty())
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let filter = Filter { container_id: id.to_owned(), ..Default::default() };
    let mut journal = Follow::new(
        shim.registration.clone(),
        Wanted { filters: vec![filter], ..Default::default() },
    );
    loop {
        match journal.next().await {
            Step::Events(events) => {
                for event in events {
                    match &event.body {
                        // The gaps of the stream itself concern every container of the shim.
                        Some(Body::Gap(gap)) if event.seq == 0 => known.lost.add(gap),
                        _ if event.container.get_or_default().id == id => known.events.push(event),
                        _ => {}
                    }
                }
            }
            Step::End => {
                let is_complete = !known.lost.is_any();
                return Ok((known, is_complete));
            }
            Step::Broken(_) => return Ok((known, false)),
        }
    }
}
