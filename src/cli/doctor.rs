//! `lookout doctor`: is this node well?

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

/// Everything that is looked at.
#[derive(Debug, Serialize)]
struct Report {
    /// What a shim can observe here, one line a category.
    categories: Vec<json::Capability>,
    bpf: Pinned,
    shims: Shims,
    #[serde(skip_serializing_if = "Option::is_none")]
    swept: Option<Removed>,
    /// What is wrong, in sentences; empty where nothing is.
    wrong: Vec<String>,
}

/// The pinned programs.
#[derive(Debug, Default, Serialize)]
struct Pinned {
    /// The bpffs; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    bpffs: Option<String>,
    versions: Vec<String>,
    /// The programs of this version that are attached.
    programs: Vec<String>,
    /// Rings of shims that live, and of shims that died.
    rings: usize,
    stale_rings: usize,
    /// Containers and trees that are watched.
    targets: usize,
}

#[derive(Debug, Serialize)]
struct Shims {
    living: usize,
}

/// What was removed.
#[derive(Debug, Serialize)]
struct Removed {
    rings: usize,
    targets: usize,
    namespaces: usize,
    processes: usize,
    /// Rings that nobody had, whose memory was given back.
    freed: usize,
}

/// Looks, and removes what is asked to be removed. Something that stays wrong is a failure.
pub(super) fn run(args: &DoctorArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut wrong = Vec::new();
    let swept = args.sweep.then(node::sweep_and_free).and_then(|swept| {
        swept
            .inspect_err(|error| wrong.push(format!("nothing could be swept: {}", chain(error))))
            .ok()
    });
    let bpf = pinned(&mut wrong);
    let living = client::registrations(&client::runtime_dir(), None)
        .map_err(|error| Failure::Unreachable(error.into()))?
        .len();
    if bpf.stale_rings > 0 {
        wrong.push(format!(
            "{} rings are of shims that died: `lookout doctor --sweep` removes them",
            bpf.stale_rings
        ));
    }
    let categories = node::probe().categories().iter().map(json::Capability::from).collect();
    let report =
        Report { categories, bpf, shims: Shims { living }, swept: swept.map(removed), wrong };
    let style = Style::of_stdout(args.look.no_trunc, args.look.quiet);
    match args.output {
        PageFormat::Json => out.write(&(json::line(&report) + "\n")),
        PageFormat::Table => out.write(&page(&report, style)),
    }
    .map_err(|_| Failure::ReaderGone)?;
    Ok(if report.wrong.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn pinned(wrong: &mut Vec<String>) -> Pinned {
    let (bpffs, status) = match node::pinned() {
        Ok(pinned) => pinned,
        Err(error) => {
            wrong.push(format!("the pins cannot be read: {}", chain(&error)));
            return Pinned::default();
        }
    };
    let is_attached = |link: &&crate::observe::source::bpf::PinnedLink| link.ids.is_some();
    let programs: Vec<String> =
        status.links.iter().filter(is_attached).map(|link| link.name.clone()).collect();
    if !status.versions.is_empty() && programs.len() < status.links.len() {
        wrong.push(
            "not all programs of this version are pinned: the next shim loads them".to_owned(),
        );
    }
    Pinned {
        bpffs: Some(bpffs.display().to_string()),
        versions: status.versions,
        programs,
        rings: status.slots,
        stale_rings: status.stale_slots,
        targets: status.targets,
    }
}

fn removed((swept, freed): (Swept, usize)) -> Removed {
    let Swept { slots, targets, namespaces, processes } = swept;
    Removed { rings: slots, targets, namespaces, processes, freed }
}

fn page(report: &Report, style: Style) -> String {
    let mut page = render::capabilities::page(&report.categories, PageFormat::Table, style);
    let Pinned { bpffs, versions, programs, rings, stale_rings, targets } = &report.bpf;
    let none_or =
        |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    page +=
        &format!("\npins      {}: {}\n", bpffs.as_deref().unwrap_or("no bpffs"), none_or(versions));
    page += &format!("programs  {}\n", none_or(programs));
    page += &format!("rings     {rings} of shims that live, {stale_rings} of shims that died\n");
    page += &format!("targets   {targets}\nshims     {}\n", report.shims.living);
    if let Some(Removed { rings, targets, namespaces, processes, freed }) = &report.swept {
        page += &format!(
            "swept     {rings} slots, {targets} targets, {namespaces} namespaces, {processes} processes; \
             {freed} rings freed\n"
        );
    }
    for wrong in &report.wrong {
        page += &(style.alarm(format!("wrong     {wrong}")) + "\n");
    }
    page
}
