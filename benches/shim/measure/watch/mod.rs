//! What observation costs: storms of processes in an observed container and in one that is not
//! observed, in turns; the cost of the loaded programs for a container that is not observed; the
//! same among a hundred other containers; and the cost of other observers.

mod follower;
mod leaves;
mod storm;
mod tools;

use std::{fs, path::Path, thread, time::Duration};

use follower::Follower;
use leaves::Leaves;
use storm::{COUNT, storm};

use crate::{
    Result,
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::{Pair, Samples},
    shim::{Caller, Shim},
    workspace::{Runtime, Side, Version, Workspace},
};

/// How many other containers run beside the storm.
const OTHERS: usize = 100;

/// How long to wait until an observer is ready, and until it has reported everything.
const UP: Duration = Duration::from_millis(1500);

/// How many storms of a kind run in a row where the kinds cannot alternate.
const ROW: usize = 6;

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    report: &mut Report,
    progress: impl Fn(&str),
) -> Result<()> {
    let caller = Caller::new(workspace, Side::Ours, Version::V1_7, Runtime::Runc)?;
    if plan.includes("watch") {
        let unwatched = storm::container(workspace, &caller, "off")?;
        programs(plan, workspace, &caller, &unwatched, report, &progress)?;
        let watched = storm::container(workspace, &caller, "on")?;
        followed(plan, workspace, [&watched, &unwatched], report, &progress)?;
        watched.end()?;
        unwatched.end()?;
    }
    if plan.includes("others") {
        let watched = storm::container(workspace, &caller, "on")?;
        others(plan, workspace, &caller, &watched, report, &progress)?;
        watched.end()?;
    }
    if plan.includes("tools") {
        let unwatched = storm::container(workspace, &caller, "off")?;
        tools::measure(plan, workspace, &unwatched, report, &progress)?;
        unwatched.end()?;
    }
    Ok(())
}

/// Measures what the eBPF programs cost a container that is not observed: its storms while another
/// container is observed, and while no program is loaded.
fn programs(
    plan: &Plan,
    workspace: &Workspace,
    caller: &Caller,
    unwatched: &Shim,
    report: &mut Report,
    progress: &impl Fn(&str),
) -> Result<()> {
    let mut pair = Pair::in_turns();
    for round in 1..=plan.crews {
        progress(&format!("unobserved storms, programs loaded and not, round {round}"));
        let bare = (0..ROW).map(|_| storm(workspace, unwatched)).collect::<Result<Vec<_>>>()?;
        let watched = caller.idle(Some(("io.lookout.observe", "on")))?;
        thread::sleep(UP);
        let loaded = (0..ROW).map(|_| storm(workspace, unwatched)).collect::<Result<Vec<_>>>()?;
        watched.end()?;
        unload()?;
        pair.ours.push(loaded.into_iter().collect::<Samples>().median());
        pair.go.push(bare.into_iter().collect::<Samples>().median());
    }
    report.observed(
        "not observed; programs loaded for others, by none loaded",
        Unit::PerSecond,
        pair,
        None,
    );
    Ok(())
}

/// Unpins the programs, because pinned ones would be reused by the next shim.
fn unload() -> Result<()> {
    let bpffs = std::env::var_os("LOOKOUT_BPFFS").ok_or("LOOKOUT_BPFFS is not set")?;
    Ok(fs::remove_dir_all(Path::new(&bpffs).join("lookout"))?)
}

/// Measures the cost of being observed, for each kind of subscriber.
fn followed(
    plan: &Plan,
    workspace: &Workspace,
    [watched, unwatched]: [&Shim; 2],
    report: &mut Report,
    progress: &impl Fn(&str),
) -> Result<()> {
    let kinds = [
        ("observed; a subscriber of the close only", Follower::CLOSE, plan.watches, Some(0.93)),
        ("observed; all of it followed", Follower::ALL, plan.watches, Some(0.88)),
        ("observed; all of it printed as JSON", Follower::JSON, plan.watches.div_ceil(4), None),
    ];
    let mut cpu = Samples::default();
    for (what, kind, rounds, budget) in kinds {
        progress(&format!("{rounds} pairs of storms, {what}"));
        let leaves = Leaves::expect(rounds * COUNT);
        let follower = kind(workspace, &watched.bundle.id, &leaves)?;
        thread::sleep(UP);
        let mut pair = Pair::in_turns();
        for round in 0..rounds {
            // Each container is as often the first of its pair as the other.
            for is_watched in [round % 2 == 0, round % 2 != 0] {
                if !is_watched {
                    pair.go.push(storm(workspace, unwatched)?);
                    continue;
                }
                let before = storm::observer_seconds(watched.pid)?;
                pair.ours.push(storm::numbered(
                    workspace,
                    watched,
                    leaves.first() + round * COUNT,
                )?);
                if follower.counts() {
                    leaves.wait_for((round + 1) * COUNT, UP);
                } else {
                    cpu.push(
                        (storm::observer_seconds(watched.pid)? - before)
                            / f64::from(u32::try_from(COUNT)?),
                    );
                }
            }
        }
        if follower.counts() {
            let fact = format!(
                "{what}: {} of {} starts reported with the right argument",
                leaves.reported(),
                rounds * COUNT
            );
            report.fact(fact);
        }
        follower.end()?;
        report.observed(what, Unit::PerSecond, pair, budget.map(Budget::RatioAtLeast));
    }
    report.fact(format!(
        "the observer's thread: {:.2} µs of processor a process, exec and exit",
        cpu.median() * 1e6
    ));
    Ok(())
}

/// Runs the same storm among a hundred containers that are observed, and among as many that are
/// not: containers affect their neighbours even when they are not observed.
fn others(
    plan: &Plan,
    workspace: &Workspace,
    caller: &Caller,
    watched: &Shim,
    report: &mut Report,
    progress: &impl Fn(&str),
) -> Result<()> {
    let (mut pair, mut woken) = (Pair::in_turns(), 0);
    for round in 1..=plan.crews {
        // Each kind is as often the first as the other.
        for is_on in [round % 2 != 0, round % 2 == 0] {
            let observe = if is_on { "on" } else { "off" };
            progress(&format!("storms among {OTHERS} with observe={observe}, round {round}"));
            let one = || caller.idle(Some(("io.lookout.observe", observe)));
            let crowd = (0..OTHERS).map(|_| one()).collect::<Result<Vec<_>>>()?;
            thread::sleep(plan.settle);
            let switches =
                || crowd.iter().map(|shim| storm::switches(shim.pid)).sum::<Result<u64>>();
            let before = switches()?;
            let rates = (0..ROW).map(|_| storm(workspace, watched)).collect::<Result<Samples>>()?;
            if is_on {
                woken += switches()? - before;
            }
            if is_on { &mut pair.ours } else { &mut pair.go }.push(rates.median());
            crowd.into_iter().try_for_each(Shim::end)?;
        }
    }
    let what = format!("observed, among {OTHERS} others: observed, and not");
    report.observed(&what, Unit::PerSecond, pair, Some(Budget::RatioAtLeast(0.98)));
    let storms = plan.crews * ROW;
    report.fact(format!(
        "{OTHERS} others that are observed: {woken} context switches in {storms} storms beside them"
    ));
    Ok(())
}
