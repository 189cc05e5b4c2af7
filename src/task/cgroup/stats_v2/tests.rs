use std::fs;

use containerd_shim_protos::protobuf::MessageFull as _;

use super::*;

fn dir(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let dir = Dir::new(folder.path().to_owned());
    (folder, dir)
}

/// Check that the type URL is the message's name, which `ctr metrics` compares.
#[test]
fn the_type_url_is_the_messages_name() {
    assert_eq!(Metrics::descriptor().full_name(), TYPE_URL);
}

/// Check that the messages that the Go library always sets are set, and no others.
#[test]
fn unconditional_messages_are_always_set() {
    let (_folder, dir) = dir(&[]);
    let metrics = metrics(&dir);
    assert!(metrics.pids.is_some() && metrics.cpu.is_some() && metrics.memory.is_some());
    assert!(metrics.io.is_some() && metrics.rdma.is_some());
    assert!(
        metrics.memory_events.is_none() && metrics.hugetlb.is_empty() && metrics.cpu.psi.is_none()
    );
}

/// Check that a missing limit is the largest number.
#[test]
fn a_missing_limit_is_the_largest_number() {
    let (_folder, dir) = dir(&[
        ("pids.current", "4\n"),
        ("pids.max", "max\n"),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "8192\n"),
        ("memory.swap.max", "0\n"),
    ]);
    let metrics = metrics(&dir);
    assert_eq!((metrics.pids.current, metrics.pids.limit), (4, u64::MAX));
    assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (4096, u64::MAX));
    assert_eq!((metrics.memory.max_usage, metrics.memory.swap_limit), (8192, 0));
}

/// Check that the memory events are read although Linux 7.2 adds a line.
#[test]
fn a_line_of_a_later_kernel_is_skipped() {
    let (_folder, dir) = dir(&[(
        "memory.events",
        "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nsock_throttled 7\n",
    )]);
    let events = memory_events(&dir).unwrap();
    assert_eq!((events.low, events.high, events.max), (1, 2, 3));
    assert_eq!((events.oom, events.oom_kill, events.oom_group_kill), (4, 5, 6));
}

/// Check CPU time and its pressure in the format of Linux 6.12.
#[test]
fn cpu_is_reported_with_its_pressure() {
    let (_folder, dir) = dir(&[
        (
            "cpu.stat",
            "usage_usec 900\nuser_usec 500\nsystem_usec 400\nnice_usec 0\n\
             core_sched.force_idle_usec 0\n\
             nr_periods 7\nnr_throttled 2\nthrottled_usec 30\nnr_bursts 1\nburst_usec 5\n",
        ),
        (
            "cpu.pressure",
            "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n\
             full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
    ]);
    let stat = cpu(&dir);
    assert_eq!((stat.usage_usec, stat.user_usec, stat.system_usec), (900, 500, 400));
    assert_eq!((stat.nr_periods, stat.nr_throttled, stat.throttled_usec), (7, 2, 30));
    assert_eq!((stat.nr_bursts, stat.burst_usec), (1, 5));
    assert_eq!((stat.psi.some.avg10, stat.psi.some.total), (0.5, 9));
}

/// Check that each device is reported, except one that was never used.
#[test]
fn each_used_device_is_reported() {
    let entries = io_entries(
        b"7:0 \n254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n\
                     8:16\n8:0 rbytes=x wios=2\n",
    );
    let reported: Vec<_> =
        entries.iter().map(|e| (e.major, e.minor, e.rbytes, e.rios, e.wios)).collect();
    assert_eq!(reported, [(7, 0, 0, 0, 0), (254, 0, 4096, 1, 0), (8, 0, 0, 0, 2)]);
}

/// Check that every known line of memory.stat has a field of its own.
#[test]
fn no_field_of_memory_is_filled_twice() {
    let mut stat = MemoryStat::default();
    for (number, (_, field)) in (1..).zip(MEMORY_STAT_FIELDS.iter().chain(MEMORY_FILES)) {
        assert_eq!(std::mem::replace(field(&mut stat), number), 0, "field {number}");
    }
    assert_eq!(MEMORY_STAT_FIELDS.len() + MEMORY_FILES.len(), 37);
}

/// Check that a size of huge pages is reported with its values, and a size without files is not.
#[test]
fn huge_pages_are_reported_by_size() {
    let (_folder, dir) = dir(&[
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("hugetlb.2MB.events", "max 3\n"),
    ]);
    let reported = hugetlb(&dir, vec!["2MB".to_owned(), "1GB".to_owned()]);
    assert_eq!(reported.len(), 1);
    assert_eq!(
        (reported[0].current, reported[0].max, reported[0].failcnt),
        (2_097_152, u64::MAX, 3)
    );
}
