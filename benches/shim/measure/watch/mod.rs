//! What watching costs the watched: a storm of processes in a container that is watched and one in
//! a container that is not, in turns; what the programs cost who is not watched; the same among a
//! hundred others; and what other observers cost.

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
    place::{Place, Runtime, Side, Version},
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::{Pair, Samples},
    shim::{Caller, Shim},
};

/// How many containers are beside.
const OTHERS: usize = 100;

/// How long an observer may take until it observes, and until it has told everything.
const UP: Duration = Duration::from_millis(1500);

/// Storms in a row of each kind where one pair cannot follow the other.
const ROW: usize = 6;

pub(super) fn measure(
    plan: &Plan,
    place: &Place,
    report: &mut Report,
    say: impl Fn(&str),
) -> Result<()> {
    let caller = Caller::new(place, Side::Ours, Version::V1_7, Runtime::Runc)?;
    if plan.includes("watch") {
        let unwatched = storm::container(place, &caller, "off")?;
        programs(plan, place, &caller, &unwatched, report, &say)?;
        let watched = storm::container(place, &caller, "on")?;
        followed(plan, place, [&watched, &unwatched], report, &say)?;
        watched.end()?;
        unwatched.end()?;
    }
    if plan.includes("others") {
        let watched = storm::container(place, &caller, "on")?;
        others(plan, place, &caller, &watched, report, &say)?;
        watched.end()?;
    }
    if plan.includes("tools") {
        let unwatched = storm::container(place, &caller, "off")?;
        tools::measure(plan, place, &unwatched, report, &say)?;
        unwatched.end()?;
    }
    Ok(())
}

/// What the programs cost who is not watched: his storms while another container is, and while
/// nothing is loaded.
fn programs(
    plan: &Plan,
    place: &Place,
    caller: &Caller,
    unwatched: &Shim,
    report: &mut Report,
    say: &impl Fn(&str),
) -> Result<()> {
    let mut pair = Pair::in_turns();
    for round in 1..=plan.crews {
        say(&format!("storms that nobody watches, programs loaded and not, round {round}"));
        let bare = (0..ROW).map(|_| storm(place, unwatched)).collect::<Result<Vec<_>>>()?;
        let watched = caller.idle(Some(("io.lookout.observe", "on")))?;
        thread::sleep(UP);
        let loaded = (0..ROW).map(|_| storm(place, unwatched)).collect::<Result<Vec<_>>>()?;
        watched.end()?;
        unload()?;
        pair.ours.push(loaded.into_iter().collect::<Samples>().median());
        pair.go.push(bare.into_iter().collect::<Samples>().median());
    }
    report.watching(
        "not watched; programs loaded for others, by none loaded",
        Unit::PerSecond,
        pair,
        None,
    );
    Ok(())
}

/// Takes the programs away: pinned, they would stay for the next shim.
fn unload() -> Result<()> {
    let bpffs = std::env::var_os("LOOKOUT_BPFFS").ok_or("LOOKOUT_BPFFS is not set")?;
    Ok(fs::remove_dir_all(Path::new(&bpffs).join("lookout"))?)
}

/// What it costs to be watched, by who follows.
fn followed(
    plan: &Plan,
    place: &Place,
    [watched, unwatched]: [&Shim; 2],
    report: &mut Report,
    say: &impl Fn(&str),
) -> Result<()> {
    let kinds = [
        ("watched; nobody asks but for the close", Follower::CLOSE, plan.watches, Some(0.93)),
        ("watched; all of it followed", Follower::ALL, plan.watches, Some(0.88)),
        ("watched; all of it printed as JSON", Follower::JSON, plan.watches.div_ceil(4), None),
    ];
    let mut cpu = Samples::default();
    for (what, kind, rounds, budget) in kinds {
        say(&format!("{rounds} pairs of storms, {what}"));
        let leaves = Leaves::expect(rounds * COUNT);
        let follower = kind(place, &watched.bundle.id, &leaves)?;
        thread::sleep(UP);
        let mut pair = Pair::in_turns();
        for round in 0..rounds {
            // Each is the first of its pair as often as the other.
            for is_watched in [round % 2 == 0, round % 2 != 0] {
                if !is_watched {
                    pair.go.push(storm(place, unwatched)?);
                    continue;
                }
                let before = storm::observer_seconds(watched.pid)?;
                pair.ours.push(storm::numbered(place, watched, leaves.first() + round * COUNT)?);
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
            let told = format!(
                "{what}: {} of {} starts told with the right argument",
                leaves.told(),
                rounds * COUNT
            );
            report.fact(told);
        }
        follower.end()?;
        report.watching(what, Unit::PerSecond, pair, budget.map(Budget::RatioAtLeast));
    }
    report.fact(format!(
        "the observer's thread: {:.2} µs of processor a process, exec and exit",
        cpu.median() * 1e6
    ));
    Ok(())
}

/// The same storm among a hundred containers that are watched, and among as many that are not: the
/// containers themselves cost their neighbours something, too.
fn others(
    plan: &Plan,
    place: &Place,
    caller: &Caller,
    watched: &Shim,
    report: &mut Report,
    say: &impl Fn(&str),
) -> Result<()> {
    let (mut pair, mut woken) = (Pair::in_turns(), 0);
    for round in 1..=plan.crews {
        // Each comes first as often as the other.
        for is_on in [round % 2 != 0, round % 2 == 0] {
            let observe = if is_on { "on" } else { "off" };
            say(&format!("storms among {OTHERS} with observe={observe}, round {round}"));
            let one = || caller.idle(Some(("io.lookout.observe", observe)));
            let crowd = (0..OTHERS).map(|_| one()).collect::<Result<Vec<_>>>()?;
            thread::sleep(plan.settle);
            let switches =
                || crowd.iter().map(|shim| storm::switches(shim.pid)).sum::<Result<u64>>();
            let before = switches()?;
            let rates = (0..ROW).map(|_| storm(place, watched)).collect::<Result<Samples>>()?;
            if is_on {
                woken += switches()? - before;
            }
            if is_on { &mut pair.ours } else { &mut pair.go }.push(rates.median());
            crowd.into_iter().try_for_each(Shim::end)?;
        }
    }
    let what = format!("watched, among {OTHERS} others: they watched, and not");
    report.watching(&what, Unit::PerSecond, pair, Some(Budget::RatioAtLeast(0.98)));
    let storms = plan.crews * ROW;
    report.fact(format!(
        "{OTHERS} others that are watched: {woken} context switches in {storms} storms beside them"
    ));
    Ok(())
}
