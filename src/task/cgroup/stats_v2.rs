//! Fills `Metrics` of version 2 from the directory of the unified hierarchy.
//!
//! The same files fill the same fields as in `containerd/cgroups` v3 `cgroup2/manager.go`. The
//! messages that the library always sets are always set here, because clients access them without a
//! check. Fields that exist only in later protos (bursts, group kills, pressure) are unknown to
//! containerd 1.6, which skips them.

use containerd_shim_protos::{
    cgroups_v2::metrics::{
        CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PidsStat,
        RdmaEntry, RdmaStat,
    },
    protobuf::MessageField,
};

use super::{
    dir::Dir,
    file_format::{self, Field},
    hugepages, pressure,
    rdma::{self, Usage},
};

/// The full name of the message, used as the type URL.
pub(super) const TYPE_URL: &str = "io.containerd.cgroups.v2.Metrics";

/// The value as which the word `max` in a limit is parsed.
const UNLIMITED: u64 = u64::MAX;

/// Reads the statistics of all controllers.
pub(super) fn metrics(dir: &Dir) -> Metrics {
    Metrics {
        pids: MessageField::some(pids(dir)),
        cpu: MessageField::some(cpu(dir)),
        memory: MessageField::some(memory(dir)),
        memory_events: memory_events(dir).into(),
        io: MessageField::some(io(dir)),
        rdma: MessageField::some(rdma(dir)),
        hugetlb: hugetlb(dir, hugepages::sizes()),
        ..Metrics::default()
    }
}

/// The keys of `cpu.stat`; times in µs.
const CPU_STAT_FIELDS: &[Field<CPUStat>] = &[
    ("usage_usec", |stat| &mut stat.usage_usec),
    ("user_usec", |stat| &mut stat.user_usec),
    ("system_usec", |stat| &mut stat.system_usec),
    ("nr_periods", |stat| &mut stat.nr_periods),
    ("nr_throttled", |stat| &mut stat.nr_throttled),
    ("throttled_usec", |stat| &mut stat.throttled_usec),
    ("nr_bursts", |stat| &mut stat.nr_bursts),
    ("burst_usec", |stat| &mut stat.burst_usec),
];

/// The keys of `memory.stat`. Linux 5.9 split `workingset_refault` and `workingset_activate` into
/// `_anon` and `_file`. The message has no fields for the new keys, so its two fields stay 0, as in
/// the Go shim.
pub(super) const MEMORY_STAT_FIELDS: &[Field<MemoryStat>] = &[
    ("anon", |stat| &mut stat.anon),
    ("file", |stat| &mut stat.file),
    ("kernel_stack", |stat| &mut stat.kernel_stack),
    ("slab", |stat| &mut stat.slab),
    ("sock", |stat| &mut stat.sock),
    ("shmem", |stat| &mut stat.shmem),
    ("file_mapped", |stat| &mut stat.file_mapped),
    ("file_dirty", |stat| &mut stat.file_dirty),
    ("file_writeback", |stat| &mut stat.file_writeback),
    ("anon_thp", |stat| &mut stat.anon_thp),
    ("inactive_anon", |stat| &mut stat.inactive_anon),
    ("active_anon", |stat| &mut stat.active_anon),
    ("inactive_file", |stat| &mut stat.inactive_file),
    ("active_file", |stat| &mut stat.active_file),
    ("unevictable", |stat| &mut stat.unevictable),
    ("slab_reclaimable", |stat| &mut stat.slab_reclaimable),
    ("slab_unreclaimable", |stat| &mut stat.slab_unreclaimable),
    ("pgfault", |stat| &mut stat.pgfault),
    ("pgmajfault", |stat| &mut stat.pgmajfault),
    ("workingset_refault", |stat| &mut stat.workingset_refault),
    ("workingset_activate", |stat| &mut stat.workingset_activate),
    ("workingset_nodereclaim", |stat| &mut stat.workingset_nodereclaim),
    ("pgrefill", |stat| &mut stat.pgrefill),
    ("pgscan", |stat| &mut stat.pgscan),
    ("pgsteal", |stat| &mut stat.pgsteal),
    ("pgactivate", |stat| &mut stat.pgactivate),
    ("pgdeactivate", |stat| &mut stat.pgdeactivate),
    ("pglazyfree", |stat| &mut stat.pglazyfree),
    ("pglazyfreed", |stat| &mut stat.pglazyfreed),
    ("thp_fault_alloc", |stat| &mut stat.thp_fault_alloc),
    ("thp_collapse_alloc", |stat| &mut stat.thp_collapse_alloc),
];

/// The files of the memory controller that contain a single number each.
const MEMORY_FILES: &[Field<MemoryStat>] = &[
    ("memory.current", |stat| &mut stat.usage),
    ("memory.max", |stat| &mut stat.usage_limit),
    ("memory.peak", |stat| &mut stat.max_usage),
    ("memory.swap.current", |stat| &mut stat.swap_usage),
    ("memory.swap.max", |stat| &mut stat.swap_limit),
    ("memory.swap.peak", |stat| &mut stat.swap_max_usage),
];

/// The keys of `memory.events`.
const MEMORY_EVENTS_FIELDS: &[Field<MemoryEvents>] = &[
    ("low", |events| &mut events.low),
    ("high", |events| &mut events.high),
    ("max", |events| &mut events.max),
    ("oom", |events| &mut events.oom),
    ("oom_kill", |events| &mut events.oom_kill),
    ("oom_group_kill", |events| &mut events.oom_group_kill),
];

/// The keys of a line of `io.stat`.
const IO_STAT_FIELDS: &[Field<IOEntry>] = &[
    ("rbytes", |entry| &mut entry.rbytes),
    ("wbytes", |entry| &mut entry.wbytes),
    ("rios", |entry| &mut entry.rios),
    ("wios", |entry| &mut entry.wios),
];

fn pids(dir: &Dir) -> PidsStat {
    PidsStat {
        current: number_in(dir, "pids.current").unwrap_or_default(),
        limit: number_in(dir, "pids.max").unwrap_or_default(),
        ..PidsStat::default()
    }
}

fn cpu(dir: &Dir) -> CPUStat {
    let mut stat = CPUStat::default();
    if let Some(content) = dir.content("cpu.stat") {
        file_format::fill(&mut stat, CPU_STAT_FIELDS, &content);
    }
    stat.psi = pressure::read(dir, "cpu.pressure").into();
    stat
}

fn memory(dir: &Dir) -> MemoryStat {
    let mut stat = MemoryStat::default();
    if let Some(content) = dir.content("memory.stat") {
        file_format::fill(&mut stat, MEMORY_STAT_FIELDS, &content);
    }
    for (file, field) in MEMORY_FILES {
        if let Some(value) = number_in(dir, file) {
            *field(&mut stat) = value;
        }
    }
    stat.psi = pressure::read(dir, "memory.pressure").into();
    stat
}

fn memory_events(dir: &Dir) -> Option<MemoryEvents> {
    let mut events = MemoryEvents::default();
    file_format::fill(&mut events, MEMORY_EVENTS_FIELDS, &dir.content("memory.events")?);
    Some(events)
}

fn io(dir: &Dir) -> IOStat {
    IOStat {
        usage: dir.content("io.stat").map(|content| io_entries(&content)).unwrap_or_default(),
        psi: pressure::read(dir, "io.pressure").into(),
        ..IOStat::default()
    }
}

/// Parses the lines of `io.stat`: a device, a space, then `key=value` pairs. A line without a space
/// is a device that was never used, and is skipped.
pub(super) fn io_entries(content: &[u8]) -> Vec<IOEntry> {
    let entry = |line: &str| {
        let (device, values) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let mut entry = IOEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            ..IOEntry::default()
        };
        for (key, value) in values.split_ascii_whitespace().filter_map(|pair| pair.split_once('='))
        {
            if let (Some((_, field)), Ok(value)) =
                (IO_STAT_FIELDS.iter().find(|(name, _)| *name == key), value.parse())
            {
                *field(&mut entry) = value;
            }
        }
        Some(entry)
    };
    file_format::lines(content).filter_map(entry).collect()
}

fn hugetlb(dir: &Dir, sizes: Vec<String>) -> Vec<HugeTlbStat> {
    let stat = |pagesize: String| {
        let file = |name| dir.content(&format!("hugetlb.{pagesize}.{name}"));
        Some(HugeTlbStat {
            current: file_format::number(&file("current")?, UNLIMITED)?,
            max: file("max")
                .and_then(|content| file_format::number(&content, UNLIMITED))
                .unwrap_or_default(),
            // In `events`, `max` counts how often the limit was reached.
            failcnt: file("events")
                .and_then(|content| file_format::value(&content, "max"))
                .unwrap_or_default(),
            pagesize,
            ..HugeTlbStat::default()
        })
    };
    sizes.into_iter().filter_map(stat).collect()
}

fn rdma(dir: &Dir) -> RdmaStat {
    let read = |file| {
        dir.content(file)
            .map(|content| rdma::parse(&content).map(rdma_entry).collect())
            .unwrap_or_default()
    };
    RdmaStat { current: read("rdma.current"), limit: read("rdma.max"), ..RdmaStat::default() }
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
