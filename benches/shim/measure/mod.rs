//! The measurements. Each takes its samples in turns, ours, Go's, ours, Go's: what the machine does
//! beside us meets both.

mod crowd;
mod ctr;
mod exec;
mod floor;
mod grace;
mod ports;
mod start;
mod stdout;
mod task;
mod watch;

pub(crate) use task::STEPS;

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
};

use crate::{
    Error, Result,
    place::{Place, Runtime, Side, Version},
    plan::Plan,
    report::Report,
};

/// Whose turn it is, in a round.
const TURNS: [Side; 2] = [Side::Ours, Side::Go];

/// Makes every measurement that was asked for.
pub(crate) fn all(plan: &Plan, place: &Place, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    let say = |what: &str| eprintln!("bench: {:>4} s  {what}", begun.elapsed().as_secs());
    grace::without(place, || lives(plan, place, report, say))?;
    // What goes on inside a container waits for no grace period, and what keeps them away slows
    // each fork down.
    watch::measure(plan, place, report, say)?;
    if plan.includes("ports") {
        ports::measure(plan, place, report, say)?;
    }
    say("done");
    Ok(())
}

/// What shims and runtimes do to make a container, and to end it.
fn lives(plan: &Plan, place: &Place, report: &mut Report, say: impl Fn(&str) + Copy) -> Result<()> {
    for version in Version::ALL {
        let say = |what: &str| say(&format!("{what}, containerd {}", version.name()));
        if plan.includes("start") {
            say("start until the first RPC");
            start::measure(plan, place, version, report)?;
        }
        for runtime in Runtime::ALL {
            if plan.includes("task") {
                say(&format!("NewTask to Delete, {}", runtime.name()));
                with_cgroups_for(runtime, || task::measure(plan, place, version, runtime, report))?;
            }
            if plan.includes("exec") {
                say(&format!("exec, {}", runtime.name()));
                with_cgroups_for(runtime, || exec::measure(plan, place, version, runtime, report))?;
            }
        }
        if plan.includes("stdout") {
            say("1 GiB of stdout");
            stdout::measure(plan, place, version, report)?;
        }
        if plan.includes("ctr") {
            say("ctr run");
            ctr::measure(plan, place, version, report)?;
        }
    }
    if plan.includes("memory") {
        crowd::measure_shims(plan, place, report, say)?;
    }
    if plan.includes("pod") {
        crowd::measure_pods(plan, place, report, say)?;
    }
    Ok(())
}

/// Lets the kernel take down what the last container leaves, a network namespace above all, before
/// the next is measured: it happens after the container is gone, and beside whoever comes next.
fn rest() {
    thread::sleep(Duration::from_millis(20));
}

/// Milliseconds that it took.
fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let begun = Instant::now();
    let result = act()?;
    Ok((begun.elapsed().as_secs_f64() * 1e3, result))
}

/// Runs where `runtime` works: crun refuses a machine with cgroups of both versions, so it gets a
/// mount namespace, of one thread, without those of version 2. Children inherit it.
fn with_cgroups_for(runtime: Runtime, act: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    let is_hybrid =
        std::fs::read_to_string("/proc/self/mounts")?.lines().any(|mount| mount.contains(UNIFIED));
    if runtime != Runtime::Crun || !is_hybrid {
        return act();
    }
    let act = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        umount2(UNIFIED, MntFlags::empty())?;
        act()
    };
    thread::scope(|scope| scope.spawn(act).join())
        .map_err(|_| Error::from("a measurement panicked"))?
}
