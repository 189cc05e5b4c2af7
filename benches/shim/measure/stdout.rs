//! 1 GiB from a container's stdout through the shim into a fifo that a plain reader reads.

use std::{fs, time::Instant};

use nix::unistd::Pid;

use super::TURNS;
use crate::{
    Result,
    fifo::Fifo,
    machine,
    plan::Plan,
    report::{Budget, Report, Unit},
    samples::Pair,
    shim::Caller,
    workspace::{Runtime, Side, Version, Workspace},
};

/// How many bytes the container writes.
const BYTES: usize = 1 << 30;

pub(super) fn measure(
    plan: &Plan,
    workspace: &Workspace,
    version: Version,
    report: &mut Report,
) -> Result<()> {
    let (mut rate, mut cpu) = (Pair::default(), Pair::default());
    for _ in 0..plan.floods {
        for side in TURNS {
            let (seconds, busy) = one(workspace, side, version)?;
            let mebibytes = f64::from(u32::try_from(BYTES >> 20)?);
            rate.side(side).push(mebibytes / seconds);
            cpu.side(side).push(busy);
        }
    }
    report.row(
        "1 GiB of stdout, rate",
        version,
        Unit::MebibytesPerSecond,
        rate,
        Some(Budget::RatioAtLeast(1.00)),
    );
    report.row("1 GiB of stdout, the shim's CPU", version, Unit::Seconds, cpu, None);
    Ok(())
}

/// Seconds from Start to the last byte, and processor seconds of the shim.
fn one(workspace: &Workspace, side: Side, version: Version) -> Result<(f64, f64)> {
    let caller = Caller::new(workspace, side, version, Runtime::Runc)?;
    let count = format!("count={}", BYTES >> 16);
    let bundle = caller.bundle(&["/bin/dd", "if=/dev/zero", "bs=64k", &count], None)?;
    let mut fifos = Fifo::outputs(&bundle)?;
    let shim = caller.serve(bundle)?;
    caller.create(&shim, Some(&fifos))?;
    let before = cpu_seconds(shim.pid)?;
    let begun = Instant::now();
    shim.task.start(&shim.bundle.id, "")?;
    fifos[0].read(BYTES)?;
    let seconds = begun.elapsed().as_secs_f64();
    shim.task.wait(&shim.bundle.id, "")?;
    let busy = cpu_seconds(shim.pid)? - before;
    shim.task.delete(&shim.bundle.id, "")?;
    shim.leave()?;
    Ok((seconds, busy))
}

/// User and system time of all threads, including ended ones, in seconds: proc(5), /proc/PID/stat,
/// fields 14 and 15.
fn cpu_seconds(pid: Pid) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').ok_or("a stat without a name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u32 =
        [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / machine::ticks_per_second()?)
}
