//! The commands that show current state: `ps`, `tree`, `capabilities` and `inspect`.

use futures::future::join_all;

use super::{
    args::{
        CapabilitiesArgs, ContainerOptions, InspectArgs, ListFormat, PageFormat, PsArgs, TreeArgs,
    },
    exit::{Exit, Failure},
    output::{Output, Style},
    render::{self, inspect::Inspected},
    shim_set::{ShimSet, find_container},
};
use crate::{
    api::{ContainerProcess, Filter, event::Body},
    client::{EventFollower, FollowOptions, FollowStep, Shim, ShimError, json::Capability},
    observe::node,
    platform,
};

pub(super) async fn ps(args: PsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (processes, exit) = live_processes(&args.common).await?;
    let style = Style::for_stdout(args.common.display.no_trunc, args.common.display.quiet);
    out.write(&render::processes::list(&processes, args.output, style))?;
    Ok(exit)
}

pub(super) async fn tree(args: TreeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (processes, exit) = live_processes(&args.common).await?;
    let style = Style::for_stdout(args.common.display.no_trunc, args.common.display.quiet);
    out.write(&match args.output {
        PageFormat::Json => render::processes::list(&processes, ListFormat::Json, style),
        PageFormat::Table => render::tree::format_trees(&processes, style),
    })?;
    Ok(exit)
}

/// The live processes in the containers of all selected shims. Of one shim, parents come before
/// children.
async fn live_processes(
    common: &ContainerOptions,
) -> Result<(Vec<ContainerProcess>, Exit), Failure> {
    let mut set = ShimSet::connect_selected(common).await?;
    let container = common.container.as_deref().unwrap_or_default();
    let answers = join_all(set.shims.iter().map(|shim| shim.processes(container))).await;
    let mut processes = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => processes.extend(answer.processes),
            Err(error) if error.is_not_found() => {}
            Err(error) => set.report_unreachable(error, common.display.quiet),
        }
    }
    Ok((processes, set.exit_status()))
}

pub(super) async fn capabilities(
    args: CapabilitiesArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let display = args.common.display;
    let mut set = match platform::HAS_SHIMS || args.common.container.is_some() {
        true => ShimSet::connect_selected(&args.common).await?,
        false => ShimSet { shims: Vec::new(), has_failed: false },
    };
    let mut answers = Vec::new();
    for answer in join_all(set.shims.iter().map(Shim::capabilities)).await {
        match answer {
            Ok(answer) => {
                answers.push(answer.categories.iter().map(Capability::from).collect::<Vec<_>>())
            }
            Err(error) => set.report_unreachable(error, display.quiet),
        }
    }
    let categories = if answers.is_empty() {
        // Without a running shim, the answer is what a shim could observe on this node.
        node::probe().categories().iter().map(Capability::from).collect()
    } else {
        render::capabilities::lowest_support(&answers)
    };
    let style = Style::for_stdout(display.no_trunc, display.quiet);
    out.write(&render::capabilities::page(&categories, args.output, style))?;
    Ok(set.exit_status())
}

pub(super) async fn inspect(args: InspectArgs, out: &mut Output) -> Result<Exit, Failure> {
    let id = args.container.as_str();
    let set = ShimSet::connect_all(args.namespace.as_deref(), args.display.quiet)
        .await?
        .with_container(id, args.display.quiet)
        .await?;
    let style = Style::for_stdout(args.display.no_trunc, args.display.quiet);
    let mut exit = set.exit_status();
    for shim in &set.shims {
        let (known, is_complete) = collect_inspected(shim, id).await?;
        if !is_complete {
            exit = Exit::Incomplete;
        }
        out.write(&render::inspect::page(&shim.registration, &known, args.output, style))?;
    }
    Ok(exit)
}

/// Collects all that a shim knows of a container. The returned boolean is false if the journal no
/// longer has all events, or could not be read to its end.
async fn collect_inspected(shim: &Shim, id: &str) -> Result<(Inspected, bool), ShimError> {
    let mut known = Inspected {
        container: find_container(shim, id).await?.unwrap_or_default(),
        capabilities: shim.capabilities().await?.categories.iter().map(Capability::from).collect(),
        // A shim of an older version may not have the method `Status`.
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
    let mut journal = EventFollower::new(
        shim.registration.clone(),
        FollowOptions { filters: vec![filter], ..Default::default() },
    );
    loop {
        match journal.next().await {
            FollowStep::Events(events) => {
                for event in events {
                    match &event.body {
                        // A gap without a sequence number is one of the stream itself and concerns
                        // every container of the shim.
                        Some(Body::Gap(gap)) if event.seq == 0 => known.lost.add_gap(gap),
                        _ if event.container.get_or_default().id == id => known.events.push(event),
                        _ => {}
                    }
                }
            }
            FollowStep::End => {
                let is_complete = !known.lost.is_any();
                return Ok((known, is_complete));
            }
            FollowStep::Broken(_) => return Ok((known, false)),
        }
    }
}
