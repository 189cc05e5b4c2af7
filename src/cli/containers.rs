//! What holds now: `ps`, `tree`, `capabilities`, `inspect`.

use futures::future::join_all;

use super::{
    args::{CapabilitiesArgs, Common, InspectArgs, ListFormat, PageFormat, PsArgs, TreeArgs},
    exit::{Exit, Failure},
    output::{Output, Style},
    reach::{Reach, knows},
    render::{self, inspect::Inspected},
};
use crate::{
    api::{ContainerProcess, Filter},
    client::{Follow, Shim, ShimError, Step, Wanted, json::Capability},
    observe::node,
    platform,
};

pub(super) async fn ps(args: PsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (processes, exit) = processes(&args.common).await?;
    let style = Style::of_stdout(args.common.look.no_trunc, args.common.look.quiet);
    out.write(&render::processes::list(&processes, args.output, style))?;
    Ok(exit)
}

pub(super) async fn tree(args: TreeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let (processes, exit) = processes(&args.common).await?;
    let style = Style::of_stdout(args.common.look.no_trunc, args.common.look.quiet);
    out.write(&match args.output {
        PageFormat::Json => render::processes::list(&processes, ListFormat::Json, style),
        PageFormat::Table => render::tree::trees(&processes, style),
    })?;
    Ok(exit)
}

/// The processes that live, by shim; parents before children.
async fn processes(common: &Common) -> Result<(Vec<ContainerProcess>, Exit), Failure> {
    let mut reach = Reach::of(common).await?;
    let container = common.container.as_deref().unwrap_or_default();
    let answers = join_all(reach.shims.iter().map(|shim| shim.processes(container))).await;
    let mut processes = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => processes.extend(answer.processes),
            Err(error) if error.is_not_found() => {}
            Err(error) => reach.tell(error, common.look.quiet),
        }
    }
    Ok((processes, reach.exit()))
}

pub(super) async fn capabilities(
    args: CapabilitiesArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let look = args.common.look;
    let mut reach = match platform::HAS_SHIMS || args.common.container.is_some() {
        true => Reach::of(&args.common).await?,
        false => Reach { shims: Vec::new(), failed: false },
    };
    let mut answers = Vec::new();
    for answer in join_all(reach.shims.iter().map(Shim::capabilities)).await {
        match answer {
            Ok(answer) => {
                answers.push(answer.categories.iter().map(Capability::from).collect::<Vec<_>>())
            }
            Err(error) => reach.tell(error, look.quiet),
        }
    }
    let categories = if answers.is_empty() {
        // No shim to ask: what one could observe here.
        node::probe().categories().iter().map(Capability::from).collect()
    } else {
        render::capabilities::least(&answers)
    };
    let style = Style::of_stdout(look.no_trunc, look.quiet);
    out.write(&render::capabilities::page(&categories, args.output, style))?;
    Ok(reach.exit())
}

pub(super) async fn inspect(args: InspectArgs, out: &mut Output) -> Result<Exit, Failure> {
    let id = args.container.as_str();
    let reach = Reach::all(args.namespace.as_deref(), args.look.quiet)
        .await?
        .of_container(id, args.look.quiet)
        .await?;
    let style = Style::of_stdout(args.look.no_trunc, args.look.quiet);
    let mut exit = reach.exit();
    for shim in &reach.shims {
        let (known, is_whole) = inspected(shim, id).await?;
        if !is_whole {
            exit = Exit::Incomplete;
        }
        out.write(&render::inspect::page(&shim.registration, &known, args.output, style))?;
    }
    Ok(exit)
}

/// What a shim knows of a container, and whether its journal could be read to the end.
async fn inspected(shim: &Shim, id: &str) -> Result<(Inspected, bool), ShimError> {
    let mut known = Inspected {
        container: knows(shim, id).await?.unwrap_or_default(),
        capabilities: shim.capabilities().await?.categories.iter().map(Capability::from).collect(),
        // A shim of another version may not know the question.
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
                known.events.extend(
                    events.into_iter().filter(|event| event.container.get_or_default().id == id),
                );
            }
            Step::End => return Ok((known, true)),
            Step::Broken(_) => return Ok((known, false)),
        }
    }
}
