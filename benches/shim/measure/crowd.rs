//! Memory and threads of 20 containers that have nothing to do: a shim each, or one pod. All are of
//! one kind at a time, because processes of one program share its pages.

use std::{collections::BTreeMap, fs, thread};

use nix::unistd::Pid;

use super::exec;
use crate::{
    Result,
    place::{Place, Runtime, Side, Version},
    plan::Plan,
    report::{Budget, Memory, Report, Unit},
    samples::{Pair, Samples},
    shim::{Caller, Shim},
};

/// Containers in a crowd.
const CROWD: usize = 20;

/// The kinds, in turns. How containerd calls ours makes no difference to the server.
const KINDS: [(Side, Version); 4] = [
    (Side::Ours, Version::V2_1),
    (Side::Go, Version::V1_6),
    (Side::Go, Version::V1_7),
    (Side::Go, Version::V2_1),
];

/// Samples of one kind.
#[derive(Default)]
struct Seen {
    memory: Memory,
    threads: Samples,
}

/// One kind's samples when nothing has happened yet, and after execs.
#[derive(Default)]
struct Kind {
    idle: Seen,
    after: Seen,
}

/// 20 shims with a container each; then 100 execs in one of them.
pub(super) fn measure_shims(
    plan: &Plan,
    place: &Place,
    report: &mut Report,
    say: impl Fn(&str),
) -> Result<()> {
    let mut kinds: [Kind; KINDS.len()] = Default::default();
    for round in 1..=plan.crowds {
        for ((side, version), kind) in KINDS.into_iter().zip(&mut kinds) {
            say(&format!("20 idle shims, {}, round {round}", name(side, version)));
            let crowd = gather(place, side, version, false)?;
            thread::sleep(plan.settle);
            for shim in &crowd {
                kind.idle.look(shim.pid)?;
            }
            exec::storm(place, &[&crowd[0]])?;
            thread::sleep(plan.settle);
            kind.after.look(crowd[0].pid)?;
            crowd.into_iter().try_for_each(Shim::end)?;
        }
    }
    let budget = |version| Some(Budget::Ratio(if version == Version::V1_6 { 0.25 } else { 0.20 }));
    tell(report, "one of 20 idle shims", &kinds, |kind| &kind.idle, budget);
    tell(report, "one of 20 shims after 100 execs", &kinds, |kind| &kind.after, |_| None);
    Ok(())
}

/// One shim with 20 containers; then 100 execs, five in each.
pub(super) fn measure_pods(
    plan: &Plan,
    place: &Place,
    report: &mut Report,
    say: impl Fn(&str),
) -> Result<()> {
    let mut kinds: [Kind; KINDS.len()] = Default::default();
    for ((side, version), kind) in KINDS.into_iter().zip(&mut kinds) {
        if plan.quick && side == Side::Go && version != Version::V2_1 {
            continue;
        }
        say(&format!("a pod of 20, {}", name(side, version)));
        let pod = gather(place, side, version, true)?;
        thread::sleep(plan.settle);
        kind.idle.look(pod[0].pid)?;
        exec::storm(place, &pod.iter().collect::<Vec<_>>())?;
        thread::sleep(plan.settle);
        kind.after.look(pod[0].pid)?;
        pod.iter().try_for_each(Shim::end_container)?;
        pod[0].leave()?;
    }
    tell(report, "the shim of a pod of 20", &kinds, |kind| &kind.idle, |_| None);
    tell(report, "the shim of a pod of 20 after 100 execs", &kinds, |kind| &kind.after, |_| None);
    Ok(())
}

fn name(side: Side, version: Version) -> String {
    match side {
        Side::Ours => "ours".into(),
        Side::Go => format!("Go {}", version.name()),
    }
}

/// 20 idle containers; in one pod, or not.
fn gather(place: &Place, side: Side, version: Version, together: bool) -> Result<Vec<Shim>> {
    let caller = Caller::new(place, side, version, Runtime::Runc)?;
    let pod = together.then(|| place.fresh("pod"));
    let annotation = pod.as_deref().map(|pod| ("io.kubernetes.cri.sandbox-id", pod));
    (0..CROWD).map(|_| caller.idle(annotation)).collect()
}

/// A row of PSS and one of threads for each containerd, and the composition of each kind.
fn tell(
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
    fn look(&mut self, pid: Pid) -> Result<()> {
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
