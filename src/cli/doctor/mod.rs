//! `lookout doctor`: checks the node, and on request removes the rings and map entries that dead
//! shims have left.

mod containerd;
mod kernel;
mod runtimes;

use std::{error::Error, io, path::Path};

use containerd::FoundContainerd;
use kernel::Kernel;
use runtimes::FoundRuntime;
use serde::Serialize;

use super::{
    args::{DoctorArgs, PageFormat},
    exit::{Exit, Failure},
    output::{Output, Style},
    render,
};
use crate::{
    client::{self, AccessDenied, json},
    config::Config,
    model::chain,
    observe::{node, source::bpf::Swept},
};

/// The results of all checks of `lookout doctor`.
#[derive(Debug, Serialize)]
struct DoctorReport {
    /// What a shim can observe on this node, one element per category.
    categories: Vec<json::Capability>,
    /// Absent if it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    bpf: Option<PinnedState>,
    /// Absent if the registrations could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    shims: Option<ShimCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swept: Option<SweptCounts>,
    kernel: Kernel,
    /// The containerd on `PATH`; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    containerd: Option<FoundContainerd>,
    /// The OCI runtimes on `PATH`.
    runtimes: Vec<FoundRuntime>,
    /// What should be looked at, one sentence each. The exit status does not depend on it.
    warnings: Vec<String>,
    /// The checks that could not be made, because this user has not the permission.
    unchecked: Vec<Unchecked>,
    /// The problems that were found, one sentence each.
    wrong: Vec<String>,
}

/// A check that could not be made.
#[derive(Debug, Serialize)]
struct Unchecked {
    /// What was to be checked.
    check: &'static str,
    /// Why it could not be checked, and what to do.
    reason: String,
}

/// Collects what the checks find.
#[derive(Debug, Default)]
struct Findings {
    unchecked: Vec<Unchecked>,
    wrong: Vec<String>,
}

impl Findings {
    /// Records that `check` failed: as not made, if this user has not the permission, else as the
    /// problem "`meaning`: error".
    fn record_failure(
        &mut self,
        check: &'static str,
        meaning: &str,
        error: &(dyn Error + 'static),
    ) {
        if is_permission_missing(error) {
            let reason = format!("{}: run `lookout doctor` as root", chain(error));
            self.unchecked.push(Unchecked { check, reason });
        } else {
            self.wrong.push(format!("{meaning}: {}", chain(error)));
        }
    }
}

/// Whether the kernel refused a call because this process is not root. An error that root gets has
/// another reason.
fn is_permission_missing(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error).filter(|_| !nix::unistd::geteuid().is_root());
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The state of the pinned eBPF programs and maps.
#[derive(Debug, Serialize)]
struct PinnedState {
    /// The mount point of the bpffs.
    bpffs: String,
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

/// Runs all checks of the node. With `--sweep`, first removes what dead shims have left. `named` is
/// the file that `--config` names. The exit status is 1 if a problem remains, and else 5 if a check
/// could not be made.
pub(super) fn run(
    args: &DoctorArgs,
    named: Option<&Path>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut findings = Findings::default();
    let swept = args.sweep.then(|| sweep(&mut findings)).flatten();
    check_config(named, &mut findings);
    let bpf = read_pinned_state(&mut findings);
    let shims = count_shims(&mut findings);
    if !nix::unistd::geteuid().is_root() {
        findings.unchecked.push(Unchecked {
            check: "what a shim can observe",
            reason: "the table is what this user can observe: run `lookout doctor` as root".into(),
        });
    }
    let categories = node::probe().categories().iter().map(json::Capability::from).collect();
    let runtimes = runtimes::find();
    let kernel = Kernel::ask();
    let containerd = containerd::find(&mut findings);
    let of_runtimes = runtimes.iter().filter_map(FoundRuntime::warning);
    let warnings = kernel.warnings().into_iter().chain(of_runtimes).collect();
    let Findings { unchecked, wrong } = findings;
    let report = DoctorReport {
        categories,
        bpf,
        shims,
        swept: swept.map(swept_counts),
        warnings,
        kernel,
        containerd,
        runtimes,
        unchecked,
        wrong,
    };
    let style = Style::for_stdout(args.display);
    match args.output {
        PageFormat::Json => out.write(&(json::to_line(&report) + "\n")),
        PageFormat::Table => out.write(&text_page(&report, style)),
    }
    .map_err(|_| Failure::OutputClosed)?;
    Ok(match (report.wrong.is_empty(), report.unchecked.is_empty()) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Incomplete,
        (false, _) => Exit::Failed,
    })
}

/// Removes what dead shims have left.
fn sweep(findings: &mut Findings) -> Option<(Swept, usize)> {
    let failed = "failed to remove what dead shims have left";
    // The sweep finds nothing in a directory that this user may not search, so that is asked first.
    node::pinned()
        .and_then(|_| node::sweep_and_free())
        .inspect_err(|error| findings.record_failure("the removal (--sweep)", failed, error))
        .ok()
}

fn check_config(named: Option<&Path>, findings: &mut Findings) {
    if let Err(error) = Config::load_with(named, |variable| std::env::var(variable).ok()) {
        let meaning = "the configuration is invalid, so nothing is observed (correct it; \
                       `lookout config show` checks it)";
        findings.record_failure("the configuration", meaning, &error);
    }
}

/// Counts the living shims.
fn count_shims(findings: &mut Findings) -> Option<ShimCounts> {
    let directory = client::runtime_dir();
    match client::registrations(&directory, None) {
        Ok(living) => Some(ShimCounts { living: living.len() }),
        Err(error) => {
            let directory = directory.join("shims");
            if let Some(denied) = AccessDenied::from_error(&directory, &error) {
                let unchecked = Unchecked { check: "the shims", reason: denied.to_string() };
                findings.unchecked.push(unchecked);
            } else {
                findings.wrong.push(format!("failed to read {}: {error}", directory.display()));
            }
            None
        }
    }
}

/// Reads the state of the pinned programs; `None` if it could not be read.
fn read_pinned_state(findings: &mut Findings) -> Option<PinnedState> {
    let (bpffs, status) = node::pinned()
        .inspect_err(|error| {
            let meaning = "failed to read the pins (`mount -t bpf bpf /sys/fs/bpf` mounts a bpffs)";
            findings.record_failure("the pinned programs", meaning, error);
        })
        .ok()?;
    let is_attached = |link: &&crate::observe::source::bpf::PinnedLink| link.ids.is_some();
    let programs: Vec<String> =
        status.links.iter().filter(is_attached).map(|link| link.name.clone()).collect();
    if !status.versions.is_empty() && programs.len() < status.links.len() {
        findings.wrong.push(
            "not all programs of this version are pinned: the next shim will load them".to_owned(),
        );
    }
    if status.stale_slots > 0 {
        findings.wrong.push(format!(
            "{} rings belong to dead shims: `lookout doctor --sweep` removes them",
            status.stale_slots
        ));
    }
    Some(PinnedState {
        bpffs: bpffs.display().to_string(),
        versions: status.versions,
        programs,
        rings: status.slots,
        stale_rings: status.stale_slots,
        targets: status.targets,
        refused: status.refused,
    })
}

fn swept_counts((swept, freed): (Swept, usize)) -> SweptCounts {
    let Swept { slots, targets, namespaces, processes } = swept;
    SweptCounts { rings: slots, targets, namespaces, processes, freed }
}

fn text_page(report: &DoctorReport, style: Style) -> String {
    let mut page = render::capabilities::page(&report.categories, PageFormat::Table, style);
    page.push('\n');
    if let Some(bpf) = &report.bpf {
        page += &pinned_lines(bpf);
    }
    if let Some(ShimCounts { living }) = &report.shims {
        page += &format!("shims     {living}\n");
    }
    if let Some(SweptCounts { rings, targets, namespaces, processes, freed }) = &report.swept {
        page += &format!(
            "swept     {rings} rings of dead shims, {targets} targets, {namespaces} namespaces, \
             {processes} processes; {freed} unused rings freed\n"
        );
    }
    page += &report.kernel.lines();
    page += &report
        .containerd
        .as_ref()
        .map_or_else(|| "containerd none on PATH\n".to_owned(), FoundContainerd::line);
    let runtimes: Vec<String> = report.runtimes.iter().map(FoundRuntime::label).collect();
    page += &format!("runtimes  {}\n", none_or(&runtimes));
    for Unchecked { check, reason } in &report.unchecked {
        page += &format!("unchecked {check}: {reason}\n");
    }
    for warning in &report.warnings {
        page += &format!("warning   {warning}\n");
    }
    for wrong in &report.wrong {
        page += &(style.highlight_failure(format!("problem   {wrong}")) + "\n");
    }
    page
}

fn pinned_lines(state: &PinnedState) -> String {
    let PinnedState { bpffs, versions, programs, rings, stale_rings, targets, refused } = state;
    let refusals = if *refused > 0 {
        format!(", which could not have {refused} entries of shared maps")
    } else {
        String::new()
    };
    format!(
        "pins      {bpffs}: {}\nprograms  {}\nrings     {rings} of live shims, {stale_rings} of \
         dead shims\ntargets   {targets}{refusals}\n",
        none_or(versions),
        none_or(programs)
    )
}

fn none_or(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
