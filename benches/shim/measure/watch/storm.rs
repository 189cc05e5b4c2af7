//! A container with a storm in it.

use std::{fs, path::PathBuf};

use nix::unistd::Pid;

use crate::{
    Result,
    place::Place,
    shim::{Caller, Shim},
};

/// Processes of a storm: half a second of them, so that a pair of storms meets the same machine.
pub(super) const COUNT: usize = 10_000;

/// How many make them: one a processor.
const WORKERS: usize = 2;

pub(super) fn container(place: &Place, caller: &Caller, observe: &str) -> Result<Shim> {
    let shim = caller.idle(Some(("io.lookout.observe", observe)))?;
    for name in ["storm", "leaf"] {
        fs::copy(place.storm().join(name), shim.bundle.path.join("rootfs").join(name))?;
    }
    Ok(shim)
}

/// One storm; processes a second.
pub(super) fn storm(place: &Place, shim: &Shim) -> Result<f64> {
    numbered(place, shim, 0)
}

/// One whose leaves have the numbers from `first` on.
pub(super) fn numbered(place: &Place, shim: &Shim, first: usize) -> Result<f64> {
    let command = format!("/storm {COUNT} {WORKERS} {first} > /result");
    shim.task.exec(&shim.bundle.id, &place.fresh("storm"), &["/bin/sh", "-c", &command])?;
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

/// Seconds of processor that the shim's observer has used.
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

/// How often the shim's threads were switched to and from.
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
