//! Exec of `true`, from Exec to Delete: one after the other, and 100 of them, 8 at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{TURNS, timed};
use crate::{
    Error, Result,
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Pair,
    shim::{Caller, Shim},
    workspace::{Runtime, Version, Workspace},
};

/// How many execs are in a storm.
pub(super) const STORM: usize = 100;

/// How many execs of a storm run at a time.
const AT_A_TIME: usize = 8;

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    version: Version,
    runtime: Runtime,
    report: &mut Report,
) -> Result<()> {
    let shims = TURNS.map(|side| {
        Caller::new(workspace, side, version, runtime).and_then(|caller| caller.idle(None))
    });
    let [ours, go] = shims;
    let shims = [ours?, go?];
    let mut single = Pair::default();
    for round in 0..=plan.execs {
        for (side, shim) in TURNS.into_iter().zip(&shims) {
            let (milliseconds, ()) =
                timed(|| shim.task.exec_true(&shim.bundle.id, &workspace.fresh("exec")))?;
            if round > 0 {
                single.side(side).push(milliseconds);
            }
        }
    }
    let mut storms = Pair::default();
    for _ in 0..plan.storms {
        for (side, shim) in TURNS.into_iter().zip(&shims) {
            let (milliseconds, ()) = timed(|| storm(workspace, &[shim]))?;
            storms.side(side).push(milliseconds);
        }
    }
    for shim in shims {
        shim.end()?;
    }
    let budget = Some(Budget::Ratio(1.00));
    report.row(&format!("exec, {}", runtime.name()), version, Unit::Milliseconds, single, budget);
    report.row(
        &format!("100 execs, 8 at a time, {}", runtime.name()),
        version,
        Unit::Milliseconds,
        storms,
        budget,
    );
    Ok(())
}

/// Runs 100 execs, 8 at a time, distributed over the containers.
pub(super) fn storm(workspace: &Workspace, containers: &[&Shim]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= STORM {
                return Ok(());
            }
            let shim = containers[number % containers.len()];
            shim.task.exec_true(&shim.bundle.id, &workspace.fresh("exec"))?;
        }
    };
    std::thread::scope(|scope| {
        let workers = [(); AT_A_TIME].map(|()| scope.spawn(work));
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| Error::from("an exec panicked"))?)
    })
}
