//! A container in which storms run.

use std::{fs, path::PathBuf};

use nix::unistd::Pid;

use crate::{
    Result,
    shim::{Caller, Shim},
    workspace::Workspace,
};

/// How many processes a storm starts: about half a second of them, so that both storms of a pair
/// run under the same load.
pub(super) const COUNT: usize = 10_000;

/// How many workers start them: one per processor.
const WORKERS: usize = 2;

pub(super) fn container(workspace: &Workspace, caller: &Caller, observe: &str) -> Result<Shim> {
    let shim = caller.idle(Some(("io.lookout.observe", observe)))?;
    for name in ["storm", "leaf"] {
        fs::copy(workspace.storm().join(name), shim.bundle.path.join("rootfs").join(name))?;
    }
    Ok(shim)
}

/// Runs one storm. Returns processes per second.
pub(super) fn storm(workspace: &Workspace, shim: &Shim) -> Result<f64> {
    numbered(workspace, shim, 0)
}

/// Runs one storm with leaf numbers from `first` on. Returns processes per second.
pub(super) fn numbered(workspace: &Workspace, shim: &Shim, first: usize) -> Result<f64> {
    let command = format!("/storm {COUNT} {WORKERS} {first} > /result");
    shim.task.exec(&shim.bundle.id, &workspace.fresh("storm"), &["/bin/sh", "-c", &command])?;
    let result = fs::read_to_string(shim.bundle.path.join("rootfs/result"))?;
    let mut result = result.split_whitespace();
    let (Some(good), Some(nanoseconds)) = (result.next(), result.next()) else {
        return Err("no result of the storm".into());
    };
    if good.parse() != Ok(COUNT) {
        return Err(format!("{good} of {COUNT} leaves ended as they should").into());
    }
    Ok(f64::from(u32::try_from(COUNT)?) / nanoseconds.parse::<f64>()? * 1e9)
}

/// Processor seconds that the shim's observer has used.
pub(super) fn observer_seconds(shim: Pid) -> Result<f64> {
    for thread in threads(shim)? {
        if fs::read_to_string(thread.join("comm"))?.trim() == "observe" {
            let statistics = fs::read_to_string(thread.join("schedstat"))?;
            let nanoseconds: f64 =
                statistics.split_whitespace().next().ok_or("no statistics")?.parse()?;
            return Ok(nanoseconds / 1e9);
        }
    }
    Err("the shim has no observer".into())
}

/// How many context switches the shim's threads had.
pub(super) fn switches(shim: Pid) -> Result<u64> {
    let mut sum = 0;
    for thread in threads(shim)? {
        let status = fs::read_to_string(thread.join("status"))?;
        let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
        sum += counts
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(sum)
}

fn threads(shim: Pid) -> Result<Vec<PathBuf>> {
    let threads = fs::read_dir(format!("/proc/{shim}/task"))?;
    Ok(threads.map(|thread| Ok(thread?.path())).collect::<std::io::Result<_>>()?)
}
