use std::{fs, path::Path};

use containerd_shim_protos::protobuf::MessageFull as _;

use super::*;

/// From Linux 6.18 with swap accounting; some lines are left out.
const MEMORY_STAT: &str = "cache 8192
rss 4096
shmem 0
pgpgin 31
pgmajfault 2
unevictable 5
hierarchical_memory_limit 9223372036854771712
hierarchical_memsw_limit 16777216
total_cache 16384
total_rss 12288
total_unevictable 6
";

fn write(folder: &Path, files: &[(&str, &str)]) -> Dir {
    fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
    Dir::new(folder.to_owned())
}

fn hierarchy(controllers: &[&str], dir: Dir) -> Hierarchy {
    Hierarchy { controllers: controllers.iter().map(|&name| name.to_owned()).collect(), dir }
}

/// Check that the type URL is the message's name, which `ctr metrics` compares.
#[test]
fn the_type_url_is_the_messages_name() {
    assert_eq!(Metrics::descriptor().full_name(), TYPE_URL);
}

/// Check that the messages that containerd's collector accesses without a check are always set.
#[test]
fn cpu_is_complete_without_any_controller() {
    let metrics = metrics(&[]);
    assert!(metrics.cpu.usage.is_some() && metrics.cpu.throttling.is_some());
    assert!(metrics.memory.is_none() && metrics.pids.is_none() && metrics.blkio.is_none());
    assert!(
        metrics.rdma.is_none()
            && metrics.memory_oom_control.is_none()
            && metrics.hugetlb.is_empty()
    );
}

/// Check that memory has all four entries, even if a file of an entry is missing or malformed.
#[test]
fn memory_has_four_entries_even_if_files_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(
        folder.path(),
        &[
            ("memory.stat", MEMORY_STAT),
            ("memory.usage_in_bytes", "20480\n"),
            ("memory.limit_in_bytes", "strange\n"),
            ("memory.failcnt", "9\n"),
            ("memory.kmem.tcp.max_usage_in_bytes", "77\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 3\n"),
        ],
    );
    let metrics = metrics(&[hierarchy(&["memory"], dir)]);
    let stat = &metrics.memory;
    assert_eq!(
        (stat.cache, stat.rss, stat.pg_pg_in, stat.pg_maj_fault, stat.unevictable),
        (8192, 4096, 31, 2, 5)
    );
    assert_eq!((stat.total_cache, stat.total_rss, stat.total_unevictable), (16384, 12288, 6));
    assert_eq!(
        (stat.hierarchical_memory_limit, stat.hierarchical_swap_limit),
        (9_223_372_036_854_771_712, 16_777_216)
    );
    assert_eq!((stat.usage.usage, stat.usage.limit, stat.usage.failcnt), (20480, 0, 9));
    assert!(stat.swap.is_some() && stat.kernel.is_some());
    assert_eq!(stat.kernel_tcp.max, 77);
    assert_eq!((metrics.memory_oom_control.under_oom, metrics.memory_oom_control.oom_kill), (1, 3));
}

/// Check that two controllers in one hierarchy are both read, and that ticks become ns.
#[test]
fn cpu_times_are_in_nanoseconds() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(
        folder.path(),
        &[
            ("cpuacct.stat", "user 3\nsystem 4\n"),
            ("cpuacct.usage", "71000000\n"),
            ("cpuacct.usage_percpu", "70000000 1000000 \n"),
            ("cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 1234\n"),
        ],
    );
    let metrics = metrics(&[hierarchy(&["cpu", "cpuacct"], dir)]);
    let (usage, throttling) = (&metrics.cpu.usage, &metrics.cpu.throttling);
    let ns_per_tick = NS_PER_SECOND / TICKS_PER_SECOND;
    assert_eq!(
        (usage.user, usage.kernel, usage.total),
        (3 * ns_per_tick, 4 * ns_per_tick, 71_000_000)
    );
    assert_eq!(usage.per_cpu, [70_000_000, 1_000_000]);
    assert_eq!(
        (throttling.periods, throttling.throttled_periods, throttling.throttled_time),
        (5, 2, 1234)
    );
}

/// Check that a missing limit on processes is 0, as clients of version 1 expect.
#[test]
fn no_limit_on_processes_is_zero() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(folder.path(), &[("pids.current", "2\n"), ("pids.max", "max\n")]);
    let metrics = metrics(&[hierarchy(&["pids"], dir)]);
    assert_eq!((metrics.pids.current, metrics.pids.limit), (2, 0));
}

/// Check that one malformed number does not shift the CPUs after it.
#[test]
fn a_malformed_number_leaves_out_all_cpus() {
    assert_eq!(per_cpu(b"1 2 3\n"), [1, 2, 3]);
    assert!(per_cpu(b"1 x 3\n").is_empty());
}

/// Check that every known line of memory.stat has a field of its own.
#[test]
fn no_field_of_memory_is_filled_twice() {
    let mut stat = MemoryStat::default();
    for (number, (_, field)) in (1..).zip(MEMORY_STAT_FIELDS) {
        assert_eq!(std::mem::replace(field(&mut stat), number), 0, "field {number}");
    }
    assert_eq!(MEMORY_STAT_FIELDS.len(), 32);
}

/// Check that a size of huge pages is reported with its values, and a size without files is not.
#[test]
fn huge_pages_are_reported_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(
        folder.path(),
        &[
            ("hugetlb.2MB.usage_in_bytes", "2097152\n"),
            ("hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
            ("hugetlb.2MB.failcnt", "1\n"),
        ],
    );
    let stats = hugetlb(&dir, vec!["2MB".to_owned(), "1GB".to_owned()]);
    assert_eq!(stats.len(), 1);
    assert_eq!(
        (stats[0].pagesize.as_str(), stats[0].usage, stats[0].max, stats[0].failcnt),
        ("2MB", 2_097_152, 4_194_304, 1)
    );
}

/// Check that RDMA is reported only if both its files exist, as in the Go library.
#[test]
fn rdma_is_reported_with_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(folder.path(), &[("rdma.current", "mlx4_0 hca_handle=2 hca_object=20\n")]);
    assert!(rdma(&dir).is_none());
    let dir = write(folder.path(), &[("rdma.max", "mlx4_0 hca_handle=9 hca_object=max\n")]);
    let stats = rdma(&dir).unwrap();
    assert_eq!((stats.current[0].hca_handles, stats.current[0].hca_objects), (2, 20));
    assert_eq!((stats.limit[0].hca_handles, stats.limit[0].hca_objects), (9, u32::MAX));
}
