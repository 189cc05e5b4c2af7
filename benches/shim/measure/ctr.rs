//! `ctr run --rm … true` on a whole containerd: what a person at a terminal waits for.

use nix::{
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};

use super::{TURNS, rest, timed};
use crate::{
    Result,
    containerd::Containerd,
    place::{Place, Version},
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Pair,
};

pub(super) fn measure(
    plan: &Plan,
    place: &Place,
    version: Version,
    report: &mut Report,
) -> Result<()> {
    let mut pair = Pair::default();
    let containerd = Containerd::start(place, version)?;
    for round in 0..=plan.runs {
        for side in TURNS {
            rest();
            let (milliseconds, ()) = timed(|| containerd.run_true(side))?;
            if round > 0 {
                pair.side(side).push(milliseconds);
            }
        }
    }
    drop(containerd);
    bury_orphans();
    report.row(
        "`ctr run --rm … true`",
        version,
        Unit::Milliseconds,
        pair,
        Some(Budget::Ratio(0.85)),
    );
    Ok(())
}

/// The shims that containerd started were orphans, and so are ours to wait for. No child of ours
/// that someone else waits for is alive here.
fn bury_orphans() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
