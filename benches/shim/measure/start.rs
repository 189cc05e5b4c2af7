//! The `start` verb until the first RPC is answered: what a client waits for before its container
//! is created.

use super::{TURNS, timed};
use crate::{
    Result,
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Pair,
    shim::Caller,
    workspace::{Runtime, Version, Workspace},
};

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    version: Version,
    report: &mut Report,
) -> Result<()> {
    let mut pair = Pair::default();
    for round in 0..=plan.starts {
        for side in TURNS {
            let caller = Caller::new(workspace, side, version, Runtime::Runc)?;
            let bundle = caller.bundle(&["/bin/true"], None)?;
            let (milliseconds, shim) = timed(|| caller.serve(bundle))?;
            shim.leave()?;
            // The first round is discarded, because it brings programs into the page cache.
            if round > 0 {
                pair.side(side).push(milliseconds);
            }
        }
    }
    report.row(
        "`start` until the first RPC",
        version,
        Unit::Milliseconds,
        pair,
        Some(Budget::Ratio(0.33)),
    );
    Ok(())
}
