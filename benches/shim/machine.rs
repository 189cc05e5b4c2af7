//! The machine that the figures are of.

use std::fs;

use crate::{Result, place::Place};

/// Kernel, processors, memory, cgroups, versions: one line each, name and value.
pub(crate) fn head(place: &Place) -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = field(&cpuinfo, "model name").unwrap_or_else(|| "processor of unknown name".into());
    let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let load = fs::read_to_string("/proc/loadavg")?.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let versions = fs::read_to_string(place.versions())?.lines().collect::<Vec<_>>().join(", ");
    Ok(vec![
        ("kernel", format!("{kernel}, cgroup {}", cgroups()?)),
        ("processor", format!("{cores} × {model}")),
        ("memory", memory),
        ("load before", load),
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
