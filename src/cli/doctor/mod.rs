//! `lookout doctor`: checks the node, and on request removes the rings and map entries that dead
//! shims have left.

mod runtimes;

use std::path::Path;

use runtimes::FoundRuntime;
use serde::Serialize;

use super::{
    args::{DoctorArgs, PageFormat},
    exit::{Exit, Failure},
    output::{Output, Style},
    render,
};
use crate::{
    client::{self, json},
    model::chain,
    observe::{node, source::bpf::Swept},
};

/// The results of all checks of `lookout doctor`.
#[derive(Debug, Serialize)]
struct DoctorReport {
    /// What a shim can observe on this node, one element per category.
    categories: Vec<json::Capability>,
    bpf: PinnedState,
    shims: ShimCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    swept: Option<SweptCounts>,
    /// The OCI runtimes on `PATH`.
    runtimes: Vec<FoundRuntime>,
    /// What should be looked at, one sentence each. The exit status does not depend on it.
    warnings: Vec<String>,
    /// The problems that were found, one sentence each.
    wrong: Vec<String>,
}

/// The state of the pinned eBPF programs and maps.
#[derive(Debug, Default, Serialize)]
struct PinnedState {
    /// The mount point of the bpffs; `None` if none is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    bpffs: Option<String>,
    /// The versions of lookout that have a pin directory.
    versions: Vec<String>,
    /// The programs of this version that are attached.
    programs: Vec<String>,
    /// The number of rings of live shims.
    rings: usize,
    /// The number of rings of dead shims, which `--sweep` removes.
    stale_rings: usize,
    /// The number of targets (containers and process trees) that are observed.
    targets: usize,
    /// How many entries of shared eBPF maps were refused to targets, because a share was used up.
    /// Each refusal is a loss of the target.
    refused: u64,
}

#[derive(Debug, Serialize)]
struct ShimCounts {
    living: usize,
}

/// How many rings and map entries of dead shims `--sweep` has removed, by kind.
#[derive(Debug, Serialize)]
struct SweptCounts {
    rings: usize,
    targets: usize,
    namespaces: usize,
    processes: usize,
    /// The number of rings that no shim used and that were freed.
    freed: usize,
}

/// Runs all checks of the node. With `--sweep`, first removes what dead shims have left. The exit
/// status is 1 if a problem remains. `named` is the file that `--config` names.
pub(super) fn run(
    args: &DoctorArgs,
    named: Option<&Path>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut wrong = Vec::new();
    let swept = args.sweep.then(node::sweep_and_free).and_then(|swept| {
        swept
            .inspect_err(|error| {
                wrong.push(format!("failed to remove what dead shims have left: {}", chain(error)))
            })
            .ok()
    });
    if let Err(error) = super::load_host_config(named) {
        wrong.push(format!("the configuration is invalid, so nothing is observed: {error}"));
    }
    let bpf = read_pinned_state(&mut wrong);
    let living = client::registrations(&client::runtime_dir(), None)
        .map_err(|error| Failure::Unreachable(error.into()))?
        .len();
    if bpf.stale_rings > 0 {
        wrong.push(format!(
            "{} rings belong to dead shims: `lookout doctor --sweep` removes them",
            bpf.stale_rings
        ));
    }
    let categories = node::probe().categories().iter().map(json::Capability::from).collect();
    let runtimes = runtimes::find();
    let report = DoctorReport {
        categories,
        bpf,
        shims: ShimCounts { living },
        swept: swept.map(swept_counts),
        warnings: runtimes.iter().filter_map(FoundRuntime::warning).collect(),
        runtimes,
        wrong,
    };
    let style = Style::for_stdout(args.display);
    match args.output {
        PageFormat::Json => out.write(&(json::to_line(&report) + "\n")),
        PageFormat::Table => out.write(&text_page(&report, style)),
    }
    .map_err(|_| Failure::OutputClosed)?;
    Ok(if report.wrong.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Reads the state of the pinned programs, and adds the problems found to `wrong`.
fn read_pinned_state(wrong: &mut Vec<String>) -> PinnedState {
    let (bpffs, status) = match node::pinned() {
        Ok(pinned) => pinned,
        Err(error) => {
            wrong.push(format!("failed to read the pin directory: {}", chain(&error)));
            return PinnedState::default();
        }
    };
    let is_attached = |link: &&crate::observe::source::bpf::PinnedLink| link.ids.is_some();
    let programs: Vec<String> =
        status.links.iter().filter(is_attached).map(|link| link.name.clone()).collect();
    if !status.versions.is_empty() && programs.len() < status.links.len() {
        wrong.push(
            "not all programs of this version are pinned: the next shim will load them".to_owned(),
        );
    }
    PinnedState {
        bpffs: Some(bpffs.display().to_string()),
        versions: status.versions,
        programs,
        rings: status.slots,
        stale_rings: status.stale_slots,
        targets: status.targets,
        refused: status.refused,
    }
}

fn swept_counts((swept, freed): (Swept, usize)) -> SweptCounts {
    let Swept { slots, targets, namespaces, processes } = swept;
    SweptCounts { rings: slots, targets, namespaces, processes, freed }
}

fn text_page(report: &DoctorReport, style: Style) -> String {
    let mut page = render::capabilities::page(&report.categories, PageFormat::Table, style);
    let PinnedState { bpffs, versions, programs, rings, stale_rings, targets, refused } =
        &report.bpf;
    let none_or =
        |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    page +=
        &format!("\npins      {}: {}\n", bpffs.as_deref().unwrap_or("no bpffs"), none_or(versions));
    page += &format!("programs  {}\n", none_or(programs));
    page += &format!("rings     {rings} of live shims, {stale_rings} of dead shims\n");
    let refusals = if *refused > 0 {
        format!(", which could not have {refused} entries of shared maps")
    } else {
        String::new()
    };
    page += &format!("targets   {targets}{refusals}\nshims     {}\n", report.shims.living);
    if let Some(SweptCounts { rings, targets, namespaces, processes, freed }) = &report.swept {
        page += &format!(
            "swept     {rings} rings of dead shims, {targets} targets, {namespaces} namespaces, \
             {processes} processes; {freed} unused rings freed\n"
        );
    }
    let runtimes: Vec<String> = report.runtimes.iter().map(FoundRuntime::label).collect();
    page += &format!("runtimes  {}\n", none_or(&runtimes));
    for warning in &report.warnings {
        page += &format!("warning   {warning}\n");
    }
    for wrong in &report.wrong {
        page += &(style.highlight_failure(format!("problem   {wrong}")) + "\n");
    }
    page
}
