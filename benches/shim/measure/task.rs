//! A container from NewTask to Delete through a shim, with containerd's sequence of calls, and
//! through the runtime alone as the lower bound.

use std::collections::BTreeMap;

use super::{TURNS, floor, rest, timed};
use crate::{
    Result,
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::{Pair, Samples},
    shim::Caller,
    workspace::{Runtime, Side, Version, Workspace},
};

/// The steps that are timed, in order.
pub(crate) const STEPS: [&str; 6] = [
    "`start` verb, Connect",
    "Create",
    "Start, Wait",
    "Delete",
    "Shutdown until gone",
    "`delete` verb",
];

/// Milliseconds of one container, by step.
type Steps = [f64; STEPS.len()];

/// The index of "Shutdown until gone" in `STEPS`.
const GONE: usize = 4;

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    version: Version,
    runtime: Runtime,
    report: &mut Report,
) -> Result<()> {
    let (mut whole, mut gone, mut bare) = (Pair::default(), Pair::default(), Samples::default());
    let mut steps: BTreeMap<&str, [Samples; STEPS.len()]> = BTreeMap::new();
    for round in 0..=plan.tasks {
        for side in TURNS {
            rest();
            let taken = one(&Caller::new(workspace, side, version, runtime)?)?;
            if round == 0 {
                continue;
            }
            whole.side(side).push(taken.iter().sum());
            gone.side(side).push(taken[GONE]);
            let name = if side == Side::Ours { "ours" } else { "Go" };
            steps
                .entry(name)
                .or_default()
                .iter_mut()
                .zip(taken)
                .for_each(|(samples, taken)| samples.push(taken));
        }
        rest();
        let milliseconds = floor::one(workspace, runtime)?;
        if round > 0 {
            bare.push(milliseconds);
        }
    }
    let budget = if runtime == Runtime::Runc { 0.80 } else { 0.60 };
    report.floor(runtime, version, &bare, &whole);
    report.steps(runtime, version, steps);
    let what = format!("NewTask→Delete, {}", runtime.name());
    report.row(&what, version, Unit::Milliseconds, whole, Some(Budget::Ratio(budget)));
    if runtime == Runtime::Runc {
        report.row(
            "Shutdown until gone",
            version,
            Unit::Milliseconds,
            gone,
            Some(Budget::OursAtMost(1000.0)),
        );
    }
    Ok(())
}

fn one(caller: &Caller) -> Result<Steps> {
    let bundle = caller.bundle(&["/bin/true"], None)?;
    let id = bundle.id.clone();
    let (start, shim) = timed(|| caller.serve(bundle))?;
    let (create, ()) = timed(|| caller.create(&shim, None))?;
    let (run, ()) = timed(|| shim.task.start_and_wait(&id, ""))?;
    let (delete, ()) = timed(|| shim.task.delete(&id, ""))?;
    let (gone, ()) = timed(|| shim.leave())?;
    let (cleanup, ()) = timed(|| caller.delete(&shim.bundle))?;
    Ok([start, create, run, delete, gone, cleanup])
}
