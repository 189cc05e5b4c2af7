//! Memory and threads of 20 idle containers: with one shim each, or in one pod. Only shims of one
//! kind run at a time, because processes of one program share its pages.

use std::{collections::BTreeMap, fs, thread};

use nix::unistd::Pid;

use super::exec;
use crate::{
    Result,
    plan::Plan,
    report::{Budget, Memory, Report, Unit},
    samples::{Pair, Samples},
    shim::{Caller, Shim},
    workspace::{Runtime, Side, Version, Workspace},
};

/// How many containers are in a crowd.
const CROWD: usize = 20;

/// The kinds, measured in turns. Which containerd calls our shim makes no difference to its server,
/// so ours is measured for one version.
const KINDS: [(Side, Version); 4] = [
    (Side::Ours, Version::V2_1),
    (Side::Go, Version::V1_6),
    (Side::Go, Version::V1_7),
    (Side::Go, Version::V2_1),
];

/// Samples of one kind in one situation.
#[derive(Default)]
struct Seen {
    memory: Memory,
    threads: Samples,
}

/// Samples of one kind before any exec, and after execs.
#[derive(Default)]
struct Kind {
    idle: Seen,
    after: Seen,
}

/// Measures 20 shims with one container each, and one of them after 100 execs.
pub(super) fn measure_shims(
    plan: &Plan,
    workspace: &Workspace,
    report: &mut Report,
    progress: impl Fn(&str),
) -> Result<()> {
    let mut kinds: [Kind; KINDS.len()] = Default::default();
    for round in 1..=plan.crowds {
        for ((side, version), kind) in KINDS.into_iter().zip(&mut kinds) {
            progress(&format!("20 idle shims, {}, round {round}", name(side, version)));
            let crowd = gather(workspace, side, version, false)?;
            thread::sleep(plan.settle);
            for shim in &crowd {
                kind.idle.sample(shim.pid)?;
            }
            exec::storm(workspace, &[&crowd[0]])?;
            thread::sleep(plan.settle);
            kind.after.sample(crowd[0].pid)?;
            crowd.into_iter().try_for_each(Shim::end)?;
        }
    }
    let budget = |version| Some(Budget::Ratio(if version == Version::V1_6 { 0.25 } else { 0.20 }));
    add_rows(report, "one of 20 idle shims", &kinds, |kind| &kind.idle, budget);
    add_rows(report, "one of 20 shims after 100 execs", &kinds, |kind| &kind.after, |_| None);
    Ok(())
}

/// Measures one shim with 20 containers, then again after 100 execs, five in each.
pub(super) fn measure_pods(
    plan: &Plan,
    workspace: &Workspace,
    report: &mut Report,
    progress: impl Fn(&str),
) -> Result<()> {
    let mut kinds: [Kind; KINDS.len()] = Default::default();
    for ((side, version), kind) in KINDS.into_iter().zip(&mut kinds) {
        if plan.quick && side == Side::Go && version != Version::V2_1 {
            continue;
        }
        progress(&format!("a pod of 20, {}", name(side, version)));
        let pod = gather(workspace, side, version, true)?;
        thread::sleep(plan.settle);
        kind.idle.sample(pod[0].pid)?;
        exec::storm(workspace, &pod.iter().collect::<Vec<_>>())?;
        thread::sleep(plan.settle);
        kind.after.sample(pod[0].pid)?;
        pod.iter().try_for_each(Shim::end_container)?;
        pod[0].leave()?;
    }
    add_rows(report, "the shim of a pod of 20", &kinds, |kind| &kind.idle, |_| None);
    add_rows(
        report,
        "the shim of a pod of 20 after 100 execs",
        &kinds,
        |kind| &kind.after,
        |_| None,
    );
    Ok(())
}

fn name(side: Side, version: Version) -> String {
    match side {
        Side::Ours => "ours".into(),
        Side::Go => format!("Go {}", version.name()),
    }
}

/// Starts 20 idle containers, in one pod or with one shim each.
fn gather(
    workspace: &Workspace,
    side: Side,
    version: Version,
    together: bool,
) -> Result<Vec<Shim>> {
    let caller = Caller::new(workspace, side, version, Runtime::Runc)?;
    let pod = together.then(|| workspace.fresh("pod"));
    let annotation = pod.as_deref().map(|pod| ("io.kubernetes.cri.sandbox-id", pod));
    (0..CROWD).map(|_| caller.idle(annotation)).collect()
}

/// Adds a row of PSS and one of threads for each containerd, and the composition of each kind.
fn add_rows(
    report: &mut Report,
    of: &str,
    kinds: &[Kind; KINDS.len()],
    which: impl Fn(&Kind) -> &Seen,
    budget: impl Fn(Version) -> Option<Budget>,
) {
    let ours = which(&kinds[0]);
    for ((side, version), kind) in KINDS.into_iter().zip(kinds) {
        let seen = which(kind);
        if seen.threads.all().is_empty() {
            continue;
        }
        report.memory(of, &name(side, version), &seen.memory);
        if side == Side::Ours {
            continue;
        }
        let pss = Pair::of(ours.memory.of("Pss"), seen.memory.of("Pss"));
        report.row(&format!("PSS of {of}"), version, Unit::Kibibytes, pss, budget(version));
        let threads = Pair::of(&ours.threads, &seen.threads);
        report.row(&format!("threads of {of}"), version, Unit::Count, threads, None);
    }
}

impl Seen {
    fn sample(&mut self, pid: Pid) -> Result<()> {
        let values = |path: String| -> Result<BTreeMap<String, f64>> {
            let text = fs::read_to_string(path)?;
            let value = |line: &str| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.split_whitespace().next()?.parse().ok()?))
            };
            Ok(text.lines().filter_map(value).collect())
        };
        self.memory.push(&values(format!("/proc/{pid}/smaps_rollup"))?);
        let threads = values(format!("/proc/{pid}/status"))?.get("Threads").copied();
        self.threads.push(threads.ok_or("a status without threads")?);
        Ok(())
    }
}
