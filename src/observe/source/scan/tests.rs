mod root {
    use std::{fs, process};

    use super::super::*;
    use crate::linux::{
        cgroup::{CgroupPath, Memberships, Relation, members},
        testing::{Cgroup, Killed, spawn},
    };

    fn sleeper() -> Killed {
        Killed(spawn(process::Command::new("sleep").arg("1000")))
    }

    /// Check that a scan finds the processes of a cgroup and of the cgroups below it, and names the
    /// nested cgroup.
    #[test]
    fn a_scan_finds_the_processes_of_nested_cgroups() {
        let own = Cgroup::new("scan");
        let nested = own.0.join("nested");
        fs::create_dir(&nested).unwrap();
        let (outer, inner, outside) = (own.shell("true"), sleeper(), sleeper());
        fs::write(nested.join("cgroup.procs"), inner.pid().to_string()).unwrap();
        let mut pids = members(&own.0).unwrap();
        pids.sort_unstable();
        let mut expected = [outer.pid(), inner.pid()];
        expected.sort_unstable();
        assert_eq!(pids, expected);
        let target = Target::Cgroup { path: own.0.clone(), pid_namespace: None };
        let records = scan(TargetId(4), &target, &[]).unwrap();
        let [Record::Scan { step: ScanStep::Began, .. }, alive @ .., end] = &records[..] else {
            panic!("{records:?}")
        };
        assert!(matches!(end, Record::Scan { step: ScanStep::Ended, .. }));
        let whats: Vec<_> = alive
            .iter()
            .map(|record| match record {
                Record::Process {
                    target: TargetId(4), grade: Grade::Snapshot, key, what, ..
                } => (*key, what),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(whats.len(), 2);
        let cgroup_of = |key: ProcessKey| {
            whats.iter().find_map(|(other, what)| match what {
                What::Alive { cgroup, lineage, .. } if *other == key => {
                    assert_eq!(lineage.parent_pid(), Some(process::id().cast_signed()));
                    Some(*cgroup)
                }
                _ => None,
            })
        };
        assert_eq!(cgroup_of(outer.key()), Some(None));
        assert_eq!(cgroup_of(inner.key()), Some(Some(cgroup::id(&nested).unwrap())));
        assert_eq!(cgroup_of(outside.key()), None);
        let memberships = Memberships::of(inner.pid()).unwrap();
        assert_eq!(
            CgroupPath::of(&own.0).unwrap().relation(&memberships),
            Some(Relation::Below(nested))
        );
        assert_eq!(
            CgroupPath::of(&own.0).unwrap().relation(&Memberships::of(outside.pid()).unwrap()),
            None
        );
    }

    /// Check that a scan of a removed cgroup succeeds and finds no processes.
    #[test]
    fn a_removed_cgroup_has_no_processes() {
        let path = Cgroup::new("removed").0.clone();
        // The guard removed the directory when the statement above ended.
        assert!(!path.exists() && members(&path).is_err());
        let records =
            scan(TargetId(1), &Target::Cgroup { path, pid_namespace: None }, &[]).unwrap();
        assert_eq!(records.len(), 2);
    }
}
