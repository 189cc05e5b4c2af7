//! Fills `Metrics` of version 1 from one directory per controller.
//!
//! The same files fill the same fields as in `containerd/cgroups` v3 `cgroup1/*.go`. Some messages
//! are always set, because containerd's collector and `ctr metrics` access them without a check:
//! `cpu` with its `usage` and `throttling`, and, if `memory` is set, its four entries.

use containerd_shim_protos::{
    cgroups::metrics::{
        CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat, Metrics,
        PidsStat, RdmaEntry, RdmaStat, Throttle,
    },
    protobuf::MessageField,
};

use super::{
    blkio,
    dir::Dir,
    file_format::{self, Field},
    hugepages,
    location::{Hierarchy, controller_dir},
    rdma::{self, Usage},
};
use crate::model::TICKS_PER_SECOND;

/// The full name of the message, used as the type URL.
pub(super) const TYPE_URL: &str = "io.containerd.cgroups.v1.Metrics";

/// The value as which the word `max` in a limit is parsed. It is 0 for clients that were written
/// before these files could contain `max`.
const UNLIMITED: u64 = 0;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Reads the statistics of all controllers.
pub(super) fn metrics(hierarchies: &[Hierarchy]) -> Metrics {
    let dir = |controller| controller_dir(hierarchies, controller);
    Metrics {
        hugetlb: dir("hugetlb").map(|dir| hugetlb(dir, hugepages::sizes())).unwrap_or_default(),
        pids: dir("pids").and_then(pids).into(),
        cpu: MessageField::some(CPUStat {
            usage: MessageField::some(dir("cpuacct").map(cpu_usage).unwrap_or_default()),
            throttling: MessageField::some(dir("cpu").map(throttling).unwrap_or_default()),
            ..CPUStat::default()
        }),
        memory: dir("memory").and_then(memory).into(),
        memory_oom_control: dir("memory").and_then(oom_control).into(),
        blkio: dir("blkio").map(blkio::stat).into(),
        rdma: dir("rdma").and_then(rdma).into(),
        ..Metrics::default()
    }
}

/// The keys of `memory.stat`.
pub(super) const MEMORY_STAT_FIELDS: &[Field<MemoryStat>] = &[
    ("cache", |stat| &mut stat.cache),
    ("rss", |stat| &mut stat.rss),
    ("rss_huge", |stat| &mut stat.rss_huge),
    ("mapped_file", |stat| &mut stat.mapped_file),
    ("dirty", |stat| &mut stat.dirty),
    ("writeback", |stat| &mut stat.writeback),
    ("pgpgin", |stat| &mut stat.pg_pg_in),
    ("pgpgout", |stat| &mut stat.pg_pg_out),
    ("pgfault", |stat| &mut stat.pg_fault),
    ("pgmajfault", |stat| &mut stat.pg_maj_fault),
    ("inactive_anon", |stat| &mut stat.inactive_anon),
    ("active_anon", |stat| &mut stat.active_anon),
    ("inactive_file", |stat| &mut stat.inactive_file),
    ("active_file", |stat| &mut stat.active_file),
    ("unevictable", |stat| &mut stat.unevictable),
    ("hierarchical_memory_limit", |stat| &mut stat.hierarchical_memory_limit),
    ("hierarchical_memsw_limit", |stat| &mut stat.hierarchical_swap_limit),
    ("total_cache", |stat| &mut stat.total_cache),
    ("total_rss", |stat| &mut stat.total_rss),
    ("total_rss_huge", |stat| &mut stat.total_rss_huge),
    ("total_mapped_file", |stat| &mut stat.total_mapped_file),
    ("total_dirty", |stat| &mut stat.total_dirty),
    ("total_writeback", |stat| &mut stat.total_writeback),
    ("total_pgpgin", |stat| &mut stat.total_pg_pg_in),
    ("total_pgpgout", |stat| &mut stat.total_pg_pg_out),
    ("total_pgfault", |stat| &mut stat.total_pg_fault),
    ("total_pgmajfault", |stat| &mut stat.total_pg_maj_fault),
    ("total_inactive_anon", |stat| &mut stat.total_inactive_anon),
    ("total_active_anon", |stat| &mut stat.total_active_anon),
    ("total_inactive_file", |stat| &mut stat.total_inactive_file),
    ("total_active_file", |stat| &mut stat.total_active_file),
    ("total_unevictable", |stat| &mut stat.total_unevictable),
];

/// The files of one of the four memory counters, without their common prefix.
const MEMORY_ENTRY_FILES: &[Field<MemoryEntry>] = &[
    ("usage_in_bytes", |entry| &mut entry.usage),
    ("max_usage_in_bytes", |entry| &mut entry.max),
    ("failcnt", |entry| &mut entry.failcnt),
    ("limit_in_bytes", |entry| &mut entry.limit),
];

/// The keys of `memory.oom_control`.
const OOM_CONTROL_FIELDS: &[Field<MemoryOomControl>] = &[
    ("oom_kill_disable", |control| &mut control.oom_kill_disable),
    ("under_oom", |control| &mut control.under_oom),
    ("oom_kill", |control| &mut control.oom_kill),
];

/// The keys of `cpu.stat`.
const CPU_STAT_FIELDS: &[Field<Throttle>] = &[
    ("nr_periods", |throttle| &mut throttle.periods),
    ("nr_throttled", |throttle| &mut throttle.throttled_periods),
    ("throttled_time", |throttle| &mut throttle.throttled_time),
];

/// The keys of `cpuacct.stat`; times in clock ticks.
const CPUACCT_STAT_FIELDS: &[Field<CPUUsage>] =
    &[("user", |usage| &mut usage.user), ("system", |usage| &mut usage.kernel)];

fn memory(dir: &Dir) -> Option<MemoryStat> {
    let mut stat = MemoryStat::default();
    file_format::fill(&mut stat, MEMORY_STAT_FIELDS, &dir.content("memory.stat")?);
    let entry = |counter: &str| {
        let mut entry = MemoryEntry::default();
        for (file, field) in MEMORY_ENTRY_FILES {
            if let Some(value) = number_in(dir, &format!("{counter}.{file}")) {
                *field(&mut entry) = value;
            }
        }
        MessageField::some(entry)
    };
    stat.usage = entry("memory");
    // The field `swap` is memory and swap together.
    stat.swap = entry("memory.memsw");
    stat.kernel = entry("memory.kmem");
    stat.kernel_tcp = entry("memory.kmem.tcp");
    Some(stat)
}

fn oom_control(dir: &Dir) -> Option<MemoryOomControl> {
    let mut control = MemoryOomControl::default();
    file_format::fill(&mut control, OOM_CONTROL_FIELDS, &dir.content("memory.oom_control")?);
    Some(control)
}

fn cpu_usage(dir: &Dir) -> CPUUsage {
    let mut usage = CPUUsage::default();
    if let Some(content) = dir.content("cpuacct.stat") {
        file_format::fill(&mut usage, CPUACCT_STAT_FIELDS, &content);
        // The times in the message are in ns.
        let ns_per_tick = NS_PER_SECOND / TICKS_PER_SECOND;
        usage.user = usage.user.saturating_mul(ns_per_tick);
        usage.kernel = usage.kernel.saturating_mul(ns_per_tick);
    }
    usage.total = number_in(dir, "cpuacct.usage").unwrap_or_default();
    usage.per_cpu =
        dir.content("cpuacct.usage_percpu").map(|content| per_cpu(&content)).unwrap_or_default();
    usage
}

/// The CPU time of each possible CPU, in ns. Empty if any value is malformed, because skipping a
/// value would assign the later values to wrong CPUs.
pub(super) fn per_cpu(content: &[u8]) -> Vec<u64> {
    let words = str::from_utf8(content).unwrap_or_default().split_ascii_whitespace();
    words.map(str::parse).collect::<Result<_, _>>().unwrap_or_default()
}

fn throttling(dir: &Dir) -> Throttle {
    let mut throttle = Throttle::default();
    if let Some(content) = dir.content("cpu.stat") {
        file_format::fill(&mut throttle, CPU_STAT_FIELDS, &content);
    }
    throttle
}

fn pids(dir: &Dir) -> Option<PidsStat> {
    Some(PidsStat {
        current: number_in(dir, "pids.current")?,
        limit: number_in(dir, "pids.max").unwrap_or_default(),
        ..PidsStat::default()
    })
}

fn hugetlb(dir: &Dir, sizes: Vec<String>) -> Vec<HugetlbStat> {
    let stat = |pagesize: String| {
        let file = |name| number_in(dir, &format!("hugetlb.{pagesize}.{name}"));
        Some(HugetlbStat {
            usage: file("usage_in_bytes")?,
            max: file("max_usage_in_bytes").unwrap_or_default(),
            failcnt: file("failcnt").unwrap_or_default(),
            pagesize,
            ..HugetlbStat::default()
        })
    };
    sizes.into_iter().filter_map(stat).collect()
}

fn rdma(dir: &Dir) -> Option<RdmaStat> {
    let read = |file| Some(rdma::parse(&dir.content(file)?).map(rdma_entry).collect());
    Some(RdmaStat {
        current: read("rdma.current")?,
        limit: read("rdma.max")?,
        ..RdmaStat::default()
    })
}

fn rdma_entry(Usage { device, handles, objects }: Usage<'_>) -> RdmaEntry {
    RdmaEntry {
        device: device.to_owned(),
        hca_handles: handles,
        hca_objects: objects,
        ..RdmaEntry::default()
    }
}

/// The number in a file of a cgroup; `None` if there is no such file.
fn number_in(dir: &Dir, file: &str) -> Option<u64> {
    file_format::number(&dir.content(file)?, UNLIMITED)
}

#[cfg(test)]
mod tests;
