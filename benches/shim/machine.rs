//! The machine on which the figures are measured.

use std::{fs, time::Instant};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    unistd::{SysconfVar, sysconf},
};

use crate::{Result, workspace::Workspace};

/// Kernel, processors, memory, cgroups, versions: one line each, name and value.
pub(crate) fn head(workspace: &Workspace) -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = field(&cpuinfo, "model name").unwrap_or_else(|| "processor of unknown name".into());
    let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let versions = fs::read_to_string(workspace.versions())?.lines().collect::<Vec<_>>().join(", ");
    Ok(vec![
        ("kernel", format!("{kernel}, cgroup {}", cgroups()?)),
        ("processor", format!("{cores} × {model}")),
        ("memory", memory),
        ("versions", versions),
        ("shim", std::env::var("LOOKOUT_REVISION").unwrap_or_else(|_| "unknown".into())),
    ])
}

fn cgroups() -> Result<&'static str> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    Ok(match (has("cgroup"), has("cgroup2")) {
        (true, true) => "v1 and v2 (hybrid)",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    })
}

/// Measures the other load of the machine during a run, which shows how far the figures can be
/// trusted.
pub(crate) struct Beside {
    begun: Instant,
    machine: f64,
    ours: f64,
}

impl Beside {
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self { begun: Instant::now(), machine: machine_seconds()?, ours: our_seconds()? })
    }

    /// How many processors were busy with other processes, on average since the beginning.
    /// Everything that this program started must have ended and been waited for.
    pub(crate) fn processors(&self) -> Result<f64> {
        let others = (machine_seconds()? - self.machine) - (our_seconds()? - self.ours);
        Ok((others / self.begun.elapsed().as_secs_f64()).max(0.0))
    }
}

/// Seconds that the processors were busy or taken by the hypervisor since boot: proc(5),
/// /proc/stat.
fn machine_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().unwrap_or_default();
    let numbers: Vec<f64> =
        all.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time, which follows, is part of
    // user.
    let ticks: f64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| numbers.get(*index)).sum();
    Ok(ticks / ticks_per_second()?)
}

/// Processor seconds of this program and of every descendant that was waited for.
fn our_seconds() -> Result<f64> {
    let mut microseconds = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        microseconds +=
            usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    }
    Ok(std::time::Duration::from_micros(microseconds.unsigned_abs()).as_secs_f64())
}

/// The unit of processor times in /proc: ticks per second.
pub(crate) fn ticks_per_second() -> Result<f64> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.ok_or("no CLK_TCK")?;
    Ok(f64::from(u32::try_from(ticks)?))
}
