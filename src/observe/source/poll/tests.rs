mod root {
    use std::time::Duration;

    use super::super::*;
    use crate::{
        linux::testing::{Cgroup, until},
        model::Grade,
    };

    fn read(source: &mut PollSource) -> Vec<Record> {
        let mut records = Vec::new();
        while source.read(1000, &mut |record| records.push(record)).unwrap() {}
        records
    }

    fn alive(records: &[Record]) -> Vec<i32> {
        let pid = |record: &Record| match record {
            Record::Process { key, what: What::Alive { .. }, grade: Grade::Snapshot, .. } => {
                Some(key.pid)
            }
            _ => None,
        };
        records.iter().filter_map(pid).collect()
    }

    /// Check that the next scan reports a new process and an ended one, and that an unchanged
    /// target has no records.
    #[test]
    fn only_a_change_is_reported() {
        let cgroup = Cgroup::new("poll");
        let mut first = cgroup.shell("true");
        let mut source = PollSource::new(Duration::ZERO);
        source
            .watch(TargetId(2), &Target::Cgroup { path: cgroup.0.clone(), pid_namespace: None })
            .unwrap();
        assert_eq!(alive(&read(&mut source)), [first.pid()]);
        assert_eq!(read(&mut source), []);
        let second = cgroup.shell("true");
        let mut found = alive(&read(&mut source));
        found.sort_unstable();
        let mut both = [first.pid(), second.pid()];
        both.sort_unstable();
        assert_eq!(found, both);
        first.go();
        first.0.wait().unwrap();
        let records = read(&mut source);
        // The process that is left, between the two markers of the scan.
        assert_eq!((alive(&records), records.len()), (vec![second.pid()], 3));
        source.unwatch(TargetId(2));
        drop(second);
        assert_eq!(read(&mut source), []);
    }

    /// Check that an exec is found although the list of pids does not change.
    #[test]
    fn an_exec_is_found_by_a_full_scan() {
        let cgroup = Cgroup::new("full");
        let mut shell = cgroup.shell("exec sleep 1000");
        let mut source = PollSource::new(Duration::ZERO);
        source
            .watch(TargetId(2), &Target::Cgroup { path: cgroup.0.clone(), pid_namespace: None })
            .unwrap();
        read(&mut source);
        shell.go();
        until("it execs", || {
            std::fs::read(format!("/proc/{}/comm", shell.pid())).unwrap() == b"sleep\n"
        });
        let reads: Vec<_> = (0..FULL_SCAN_EVERY).map(|_| read(&mut source)).collect();
        let scans: Vec<_> = reads.iter().filter(|records| !records.is_empty()).collect();
        assert_eq!(scans.len(), 1, "{reads:?}");
        assert!(matches!(&scans[0][1], Record::Process { what: What::Alive { image, .. }, .. }
            if image.comm.as_deref() == Some(b"sleep")));
    }

    /// Check that a target is not scanned again before the interval has passed, and that a process
    /// that does not exist cannot be watched.
    #[test]
    fn a_scan_waits_for_its_interval() {
        let cgroup = Cgroup::new("interval");
        let _shell = cgroup.shell("true");
        let mut source = PollSource::new(Duration::from_secs(1000));
        source
            .watch(TargetId(2), &Target::Cgroup { path: cgroup.0.clone(), pid_namespace: None })
            .unwrap();
        assert_eq!(alive(&read(&mut source)).len(), 1);
        // A change that a scan would find.
        let _second = cgroup.shell("true");
        assert_eq!(read(&mut source), []);
        let gone = Target::Tree { pid: i32::MAX };
        assert!(matches!(source.watch(TargetId(3), &gone), Err(SourceError::Target { .. })));
    }
}
