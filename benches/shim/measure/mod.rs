//! The measurements. Each alternates its samples, ours, Go's, ours, Go's, so that other load of the
//! machine affects both.

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
    plan::Plan,
    report::Report,
    workspace::{Runtime, Side, Version, Workspace},
};

/// The order of the sides in a round.
const TURNS: [Side; 2] = [Side::Ours, Side::Go];

/// Makes every requested measurement.
pub(crate) fn all(plan: &Plan, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    let progress = |what: &str| eprintln!("bench: {:>4} s  {what}", begun.elapsed().as_secs());
    grace::without(workspace, || lifecycles(plan, workspace, report, progress))?;
    // Measurements inside a running container do not wait for grace periods, and preventing those
    // waits slows down each fork.
    watch::measure(plan, workspace, report, progress)?;
    if plan.includes("ports") {
        ports::measure(plan, workspace, report, progress)?;
    }
    progress("done");
    Ok(())
}

/// Measures what shims and runtimes do to start and to end a container.
fn lifecycles(
    plan: &Plan,
    workspace: &Workspace,
    report: &mut Report,
    progress: impl Fn(&str) + Copy,
) -> Result<()> {
    for version in Version::ALL {
        let progress = |what: &str| progress(&format!("{what}, containerd {}", version.name()));
        if plan.includes("start") {
            progress("start until the first RPC");
            start::measure(plan, workspace, version, report)?;
        }
        for runtime in Runtime::ALL {
            if plan.includes("task") {
                progress(&format!("NewTask to Delete, {}", runtime.name()));
                with_cgroups_for(runtime, || {
                    task::measure(plan, workspace, version, runtime, report)
                })?;
            }
            if plan.includes("exec") {
                progress(&format!("exec, {}", runtime.name()));
                with_cgroups_for(runtime, || {
                    exec::measure(plan, workspace, version, runtime, report)
                })?;
            }
        }
        if plan.includes("stdout") {
            progress("1 GiB of stdout");
            stdout::measure(plan, workspace, version, report)?;
        }
        if plan.includes("ctr") {
            progress("ctr run");
            ctr::measure(plan, workspace, version, report)?;
        }
    }
    if plan.includes("memory") {
        crowd::measure_shims(plan, workspace, report, progress)?;
    }
    if plan.includes("pod") {
        crowd::measure_pods(plan, workspace, report, progress)?;
    }
    Ok(())
}

/// Waits a moment so that the kernel can remove what the last container left, mainly its network
/// namespace. It does that after the container is gone, which would slow down the next measurement.
fn rest() {
    thread::sleep(Duration::from_millis(20));
}

/// Runs `act` and returns how many milliseconds it took, and its result.
fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let begun = Instant::now();
    let result = act()?;
    Ok((begun.elapsed().as_secs_f64() * 1e3, result))
}

/// Runs `act` where `runtime` works. crun refuses a machine with cgroups of both versions, so it
/// gets a thread with a mount namespace without cgroup v2. Children inherit that namespace.
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
