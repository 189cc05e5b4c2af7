//! `ctr run --rm … true` with a complete containerd: what a user at a terminal waits for.

use nix::{
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};

use super::{TURNS, rest, timed};
use crate::{
    Result,
    containerd::Containerd,
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Pair,
    workspace::{Version, Workspace},
};

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    version: Version,
    report: &mut Report,
) -> Result<()> {
    let mut pair = Pair::default();
    let containerd = Containerd::start(workspace, version)?;
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
    reap_orphans();
    report.row(
        "`ctr run --rm … true`",
        version,
        Unit::Milliseconds,
        pair,
        Some(Budget::Ratio(0.85)),
    );
    Ok(())
}

/// Reaps the shims that containerd started: they are orphans, and this program is their subreaper.
/// At this point no child exists that another part of the program waits for.
fn reap_orphans() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
