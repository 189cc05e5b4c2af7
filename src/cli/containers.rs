//! The commands that show current state: `ps`, `tree` and `capabilities`.

use futures::future::join_all;

use super::{
    args::{CapabilitiesArgs, ContainerOptions, Format, PageFormat, PsArgs, TreeArgs},
    exit::{Exit, Failure},
    hint_if_empty,
    output::{Output, Style},
    past, render,
    rows::select_and_sort,
    shim_set::ShimSet,
    watch,
};
use crate::{
    api::ContainerProcess,
    client::{
        Shim,
        json::{Capability, ListedProcess},
    },
    observe::node,
    platform,
};

pub(super) async fn ps(args: PsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let style = Style::for_stdout(args.common.display);
    let page = async || {
        let hints = (!args.watch).then_some(&args.list.output);
        let (processes, exit) = live_processes(&args.common, hints).await?;
        let processes = select_and_sort(processes, &args.list, |one| ListedProcess::from(one))?;
        Ok((render::processes::list(&processes, &args.list.output, style), exit))
    };
    watch::print(args.watch, page, out).await
}

pub(super) async fn tree(args: TreeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let style = Style::for_stdout(args.common.display);
    let page = async || {
        let hints = (!args.watch).then_some(&Format::Table);
        let (processes, exit) = match args.at {
            None => live_processes(&args.common, hints).await?,
            Some(at_ns) => past::processes_at(&args.common, at_ns).await?,
        };
        let text = match args.output {
            PageFormat::Json => render::processes::list(&processes, &Format::Json, style),
            PageFormat::Table => render::tree::format_trees(&processes, style),
        };
        Ok((text, exit))
    };
    watch::print(args.watch, page, out).await
}

/// The live processes in the containers of all selected shims. Of one shim, parents come before
/// children. If there are none, a hint is printed, unless the format is for a program or `None`.
async fn live_processes(
    common: &ContainerOptions,
    format: Option<&Format>,
) -> Result<(Vec<ContainerProcess>, Exit), Failure> {
    let is_quiet = common.display.quiet;
    let (mut set, scope) = ShimSet::select(common, false).await?;
    let container = scope.only_id().unwrap_or_default();
    let answers = join_all(set.shims.iter().map(|shim| shim.processes(container))).await;
    let mut processes = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => processes.extend(answer.processes),
            Err(error) if error.is_not_found() => {}
            Err(error) => set.report_unreachable(error, is_quiet),
        }
    }
    let descriptions = set.descriptions().await;
    processes.iter_mut().for_each(|one| descriptions.complete(one.container.as_mut()));
    processes.retain(|one| scope.has(one.container.get_or_default()));
    // What a shim that did not answer has is not known.
    if let (true, false, Some(format)) = (processes.is_empty(), set.has_failed, format) {
        hint_if_empty(&set.registrations(), "live processes", format, is_quiet);
    }
    Ok((processes, set.exit_status()))
}

pub(super) async fn capabilities(
    args: CapabilitiesArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let display = args.common.display;
    let mut set = match platform::HAS_SHIMS || args.common.container().is_some() {
        true => ShimSet::select(&args.common, false).await?.0,
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
    let style = Style::for_stdout(display);
    out.write(&render::capabilities::page(&categories, args.output, style))?;
    Ok(set.exit_status())
}
