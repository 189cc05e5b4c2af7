//! The `start` verb until the first RPC answers: what a client waits for before its container is
//! even looked at.

use super::{TURNS, timed};
use crate::{
    Result,
    place::{Place, Runtime, Version},
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Pair,
    shim::Caller,
};

pub(super) fn measure(
    plan: &Plan,
    place: &Place,
    version: Version,
    report: &mut Report,
) -> Result<()> {
    let mut pair = Pair::default();
    for round in 0..=plan.starts {
        for side in TURNS {
            let caller = Caller::new(place, side, version, Runtime::Runc)?;
            let bundle = caller.bundle(&["/bin/true"], None)?;
            let (milliseconds, shim) = timed(|| caller.serve(bundle))?;
            shim.leave()?;
            // The first round brings programs into the page cache.
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
